"""The merges of a run: what each snapshot contributed, and how other ways of merging compare."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fcot.files.json_files import read_json
from fcot.merge.picture import draw_merge
from fcot.report.markup import absent, figure, picture
from fcot.report.runs import by_age, name_of


def merge_section(run: Path, missing: list[str]) -> str:
    """Return the section; says in `missing` if no merge was made."""
    reports = {path: read_json(path, "Merge again: fcot merge …") for path in by_age(run.rglob("merge.json"))}
    if not reports:
        missing.append("No merge was made.")
        return absent(missing[-1])
    introduction = (
        "<p>Training leaves a handful of snapshots. Each group of them is mixed and scored on held-out pages; a "
        "snapshot's Shapley value φ is what it adds to a group on average over all orders of joining. Snapshots with a "
        "positive φ are mixed with weights in proportion to it, and the result must hold its own against simpler "
        "ways of merging. The one that was kept is marked.</p>"
    )
    return introduction + "".join(merge_figure(name_of(path.parent, run), report) for path, report in reports.items())


def merge_figure(name: str, report: Mapping[str, Any]) -> str:
    """Return the picture of one merge with what is known of it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "merge.png"
        draw_merge(report, path)
        image = picture(path.read_bytes(), f"Shapley values and scores of the merge {name}")
    chosen = report["controls"][report["chosen"]]["utility"]
    alone = max(report["utilities"][player] for player in report["players"])
    notes = "".join(f" Note: {note}." for note in report.get("notes", []))
    facts = (
        f"{name}: {report['evaluations']} mixtures scored. "
        f"Chosen: {report['chosen'].replace('_', ' ')}, {chosen:.4f}; the best snapshot alone has {alone:.4f}. "
        f"{reason(report)} These scores found the candidates, so they flatter them; those above are of the test pages."
        f"{notes}"
    )
    return figure(image, escape(facts))


def reason(report: Mapping[str, Any]) -> str:
    """Return why that merge was kept, as a sentence; merges before 0.2 kept what scored best."""
    why = (report.get("choice") or {}).get("why", "the best of these scores was kept, which few pages tell from luck")
    return f"{why[0].upper()}{why[1:]}."
