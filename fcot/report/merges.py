"""The merges of a run: what each snapshot contributed, and how other ways of merging compare."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fcot.files.json_files import read_json
from fcot.merge.picture import draw_merge
from fcot.report.cells import Picture
from fcot.report.runs import by_age, name_of


def merge_section(run: Path, missing: list[str]) -> list[tuple[Picture, str]] | str:
    """Return the merges as the section shows them, or why it shows none, which is then said in `missing`, too."""
    reports = {path: read_json(path, "Merge again: fcot merge …") for path in by_age(run.rglob("merge.json"))}
    if not reports:
        missing.append("No merge was made.")
        return missing[-1]
    return [merge_figure(name_of(path.parent, run), report) for path, report in reports.items()]


def merge_figure(name: str, report: Mapping[str, Any]) -> tuple[Picture, str]:
    """Return the picture of one merge with what is known of it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "merge.png"
        draw_merge(report, path)
        image = Picture(path.read_bytes(), f"Shapley values and scores of the merge {name}")
    chosen = report["controls"][report["chosen"]]["utility"]
    alone = max(report["utilities"][player] for player in report["players"])
    notes = "".join(f" Note: {note}." for note in report.get("notes", []))
    facts = (
        f"{name}: {report['evaluations']} mixtures scored. "
        f"Chosen: {report['chosen'].replace('_', ' ')}, {chosen:.4f}; the best snapshot alone has {alone:.4f}. "
        f"{reason(report)} These scores found the candidates, so they flatter them; those above are of the test pages."
        f"{notes}"
    )
    return image, facts


def reason(report: Mapping[str, Any]) -> str:
    """Return why that merge was kept, as a sentence; merges before 0.2 kept what scored best."""
    why = (report.get("choice") or {}).get("why", "the best of these scores was kept, which few pages tell from luck")
    return f"{why[0].upper()}{why[1:]}."
