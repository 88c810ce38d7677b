"""The page of a report: what was found, shown, and how it was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from fcot.evaluation.records import Record
from fcot.report.cells import Picture, png_of
from fcot.report.claims import portion
from fcot.report.examples import choose, examples_section, readers
from fcot.report.making import making_section
from fcot.report.merges import merge_section
from fcot.report.pages import find_pages
from fcot.report.rows import final, share, with_role
from fcot.report.runs import TestedModel
from fcot.report.savings import Savings, counted_page, saved_facts, savings_section
from fcot.report.scores import scores_section
from fcot.report.tokens import TilingSpec, draw_tokens, tiling_of
from fcot.report.training import training_section

HERE = Path(__file__).parent

Found = Mapping[str, Any]
Claims = Mapping[int, Sequence[str]]  # by ratio


def write_page(
    path: Path, *, run: Path, data: Path | None, scored: Sequence[TestedModel], claims: Claims, found: Found
) -> None:
    """Write the page, one file that needs no other.

    Args:
        path: The HTML file.
        run: Folder of the run.
        data: Folder of the sets, or None to ask the run's configurations.
        scored: The tested models.
        claims: What was found, by ratio.
        found: Rows, savings, environment and what is missing; what the page has to leave out is added to the last.

    Raises:
        UserError: If `data` does not hold the pages that were tested.
    """
    rows, missing = found["rows"], found["missing"]
    models, eyes = readers(scored), tiling_of(run)
    examples = choose(models)
    wanted = [example.record for example in examples]
    tiled = page_of_tiles(models[0].records, eyes) if models and eyes else None
    pages = find_pages(data, run, scored, [*wanted, *([tiled] if tiled else [])]) if wanted else {}
    main = next(iter(claims.values()), ["No student was tested, so nothing is claimed."])[0]
    shown = {
        "page": {
            "title": title_of(scored),
            "lead": main,
            "facts": [key_figures(ratio, scored, rows, found["savings"]) for ratio in claims],
            "counted": counted_page() if found["savings"] else None,
            "claims": further_claims(claims),
        },
        "scores": scores_section(rows),
        "savings": savings_section(found["savings"], ratios_of(scored), missing),
        "tokens": tokens_section(run, scored, eyes, tiled, pages, missing),
        "read": examples_section(models, examples, pages, missing),
        "training": training_section(run, missing),
        "merges": merge_section(run, missing),
        "making": making_section(run, found, scored),
        "missing": missing,
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
    }
    template = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html")
    path.write_text(template.render(shown).lstrip() + "\n", encoding="utf-8")


def title_of(scored: Sequence[TestedModel]) -> str:
    """Return the page's title."""
    shares = " or ".join(portion(ratio) for ratio in ratios_of(scored))
    return f"Reading with {shares or 'all'} of the visual tokens"


def ratios_of(scored: Sequence[TestedModel]) -> list[int]:
    """Return the ratios of the tested students."""
    return sorted({model.ratio for model in scored} - {1})


def key_figures(
    ratio: int, scored: Sequence[TestedModel], rows: Sequence[Mapping[str, Any]], saved: Savings
) -> list[tuple[str, str]]:
    """Return what the last student of a ratio keeps of its teacher's score, and what its ratio saves at real size."""
    student, teacher = final(scored, ratio), with_role(scored, "teacher")
    facts = saved_facts(saved, ratio)
    if student is not None and teacher is not None:
        row = next(row for row in rows if row["name"] == student.name)
        before, after = (model.row["visual_tokens"] for model in (teacher, student))
        if "vs_teacher" in row:
            kept, _, interval = share(row["vs_teacher"]).partition(" [")
            what = f"of the teacher's score [{interval}, with {after:.1f} instead of {before:.1f} visual tokens a page"
            facts.insert(0, (kept, f"{what}, ratio {ratio}"))
        else:
            facts.insert(0, (f"{before:.1f} → {after:.1f}", f"visual tokens a page, ratio {ratio}"))
    return facts


def further_claims(claims: Claims) -> list[dict[str, Any]]:
    """Return the claims by ratio without the very first, which stands at the top of the page."""
    return [
        {"title": f"{portion(ratio).capitalize()} of the visual tokens", "claims": said if number else said[1:]}
        for number, (ratio, said) in enumerate(claims.items())
    ]


def page_of_tiles(records: Sequence[Record], eyes: TilingSpec) -> Record | None:
    """Return the page to draw tokens on: the most tiles up to four and a thumbnail, then the most text."""

    def fit(record: Record) -> tuple[bool, int, int]:
        few = record.visual_tokens <= 5 * eyes.side**2
        return few, record.visual_tokens if few else -record.visual_tokens, len(record.references[0])

    return max(records, key=fit, default=None)


def tokens_section(
    run: Path,
    scored: Sequence[TestedModel],
    eyes: TilingSpec | None,
    record: Record | None,
    pages: Mapping[str, Image.Image],
    missing: list[str],
) -> dict[str, Any] | str:
    """Return what the section shows and write its picture to `tokens.png`; says in `missing` if it cannot be drawn."""
    if eyes is None or record is None or record.key not in pages:
        what = "the test shards were not found" if eyes else "no re-alignment with its teacher's folder was found"
        missing.append(f"The visual tokens of a page are not drawn: {what}.")
        return missing[-1]
    page, panels = pages[record.key], {1: "Teacher"}
    for model in scored:
        counted = next((one.visual_tokens for one in model.records if one.key == record.key), None)
        if counted is not None and counted != sum(eyes.counts(page, model.ratio)):
            missing.append(f"The visual tokens of a page are not drawn: {model.name} was tested with other tiles.")
            return missing[-1]
        if model.ratio > 1:
            panels[model.ratio] = f"Student, ratio {model.ratio}"
    image = png_of(draw_tokens(page, eyes, list(panels.items())), colors=96)
    (run / "tokens.png").write_bytes(image)
    return {"key": record.key, "picture": Picture(image, "A page cut into tiles and tokens, for teacher and student")}
