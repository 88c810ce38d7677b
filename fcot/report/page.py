"""The page of a report: what was found, shown, and how it was made."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from fcot.evaluation.records import Record
from fcot.report.claims import portion
from fcot.report.examples import choose, examples_section, readers
from fcot.report.making import limits_section, making_section
from fcot.report.markup import absent, figure, picture, png_of
from fcot.report.merges import merge_section
from fcot.report.pages import find_pages
from fcot.report.rows import final, share, with_role
from fcot.report.runs import TestedModel
from fcot.report.savings import Savings, counted_page, saved_facts, savings_section
from fcot.report.scores import scores_section
from fcot.report.tokens import TilingSpec, draw_tokens, tiling_of
from fcot.report.training import training_section

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
    sections = {
        "What was found": claims_section(claims),
        "Scores": scores_section(rows),
        "What it saves": savings_section(found["savings"], ratios_of(scored), missing),
        "The visual tokens of a page": tokens_section(run, scored, eyes, tiled, pages, missing),
        "What the models read": examples_section(models, examples, pages, missing),
        "Training": training_section(run, missing),
        "The merge": merge_section(run, missing),
        "How it was made": making_section(run, found, scored),
        "Limits": limits_section(),
    }
    title = title_of(scored)
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections.items())
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    path.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{introduction(claims, scored, found)}</header>{body}"
        f"{footer(missing)}</main></body></html>\n",
        encoding="utf-8",
    )


def title_of(scored: Sequence[TestedModel]) -> str:
    """Return the page's title."""
    shares = " or ".join(portion(ratio) for ratio in ratios_of(scored))
    return f"Reading with {shares or 'all'} of the visual tokens"


def ratios_of(scored: Sequence[TestedModel]) -> list[int]:
    """Return the ratios of the tested students."""
    return sorted({model.ratio for model in scored} - {1})


def introduction(claims: Claims, scored: Sequence[TestedModel], found: Found) -> str:
    """Return the main claim, the figures that matter most, and what this is about."""
    main = next(iter(claims.values()), ["No student was tested, so nothing is claimed."])[0]
    return (
        f'<p class="lead">{escape(main)}</p>'
        + "".join(key_figures(ratio, scored, found["rows"], found["savings"]) for ratio in claims)
        + counted_note(found["savings"])
        + "<p>A vision-language model reads a page as hundreds or thousands of visual tokens, usually many more than "
        "the words around it, and pays for each in memory and time. Here a trained model, the <b>teacher</b>, is given "
        "a small compressor that merges neighbouring visual tokens. This <b>student</b> is re-aligned to speak as the "
        "teacher does, then trained on, and snapshots of that training are merged (the method of FCoT-VL, arXiv "
        "2502.18512). This page shows what that cost and what it gained.</p>"
    )


def key_figures(ratio: int, scored: Sequence[TestedModel], rows: Sequence[Mapping[str, Any]], saved: Savings) -> str:
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
    blocks = "".join(f"<div><b>{fact}</b><span>{escape(name)}</span></div>" for fact, name in facts)
    return f'<div class="facts">{blocks}</div>' if facts else ""


def counted_note(saved: Savings) -> str:
    """Return what the figures at the top of the page are of: scores were tested, savings are counted."""
    if not saved:
        return ""
    return (
        f"<p><small>Scores: the models and pages tested here. TFLOP and MiB: counted for {counted_page()}.</small></p>"
    )


def claims_section(claims: Claims) -> str:
    """Return the section with the further claims, by ratio if there are several."""
    parts = [] if claims else [absent("No student was tested.")]
    for number, (ratio, said) in enumerate(claims.items()):
        title = f"<h3>{portion(ratio).capitalize()} of the visual tokens</h3>" if len(claims) > 1 else ""
        listed = said if number else said[1:]  # the very first stands at the top of the page
        parts.append(title + f"<ul>{''.join(f'<li>{escape(claim)}</li>' for claim in listed)}</ul>")
    return "".join(parts) + "<p><small>Figures in brackets are the ends of 95 % intervals.</small></p>"


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
) -> str:
    """Return the section and write its picture to `tokens.png`; says in `missing` if it cannot be drawn."""
    if eyes is None or record is None or record.key not in pages:
        what = "the test shards were not found" if eyes else "no re-alignment with its teacher's folder was found"
        missing.append(f"The visual tokens of a page are not drawn: {what}.")
        return absent(missing[-1])
    page, panels = pages[record.key], {1: "Teacher"}
    for model in scored:
        counted = next((one.visual_tokens for one in model.records if one.key == record.key), None)
        if counted is not None and counted != sum(eyes.counts(page, model.ratio)):
            missing.append(f"The visual tokens of a page are not drawn: {model.name} was tested with other tiles.")
            return absent(missing[-1])
        if model.ratio > 1:
            panels[model.ratio] = f"Student, ratio {model.ratio}"
    image = png_of(draw_tokens(page, eyes, list(panels.items())), colors=96)
    (run / "tokens.png").write_bytes(image)
    caption = (
        f"Test page {escape(record.key)} as the models see it: cut into tiles and, if there is more than one, with a "
        "thumbnail of the whole page, which is a tile too and whose tokens count. Each outlined cell is one visual "
        "token of the language model; the student's are merged from neighbours and tinted in turn."
    )
    return figure(picture(image, "A page cut into tiles and tokens, for teacher and student"), caption)


def footer(missing: Sequence[str]) -> str:
    """Return the end of the page, with what was left out."""
    left_out = f"Left out of this report: {' '.join(missing)} " if missing else ""
    return f"<footer>{escape(left_out)}Written by <code>fcot report</code>.</footer>"
