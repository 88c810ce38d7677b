"""The page of a report: what was found, shown, and how it was made."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from fcot.report.claims import portion
from fcot.report.making import limits_section, making_section
from fcot.report.markup import absent, figure, picture, png_of
from fcot.report.merges import merge_section
from fcot.report.pages import find_pages
from fcot.report.reading import Example, choose, reading_section, readers
from fcot.report.rows import final, share, with_role
from fcot.report.runs import Scored
from fcot.report.scores import scores_section, time_section
from fcot.report.tokens import draw_tokens, eyes_of
from fcot.report.training import training_section

Found = Mapping[str, Any]


def write_page(path: Path, *, run: Path, data: Path | None, scored: Sequence[Scored], found: Found) -> None:
    """Write the page, one file that needs no other.

    Args:
        path: The HTML file.
        run: Folder of the run.
        data: Folder of the sets, or None to ask the run's configurations.
        scored: The tested models.
        found: Rows, claims, environment and what is missing; what the page has to leave out is added to the last.

    Raises:
        UserError: If `data` does not hold the pages that were tested.
    """
    rows, claims, missing = found["rows"], found["claims"], found["missing"]
    models = readers(scored)
    examples = choose(models)
    pages = find_pages(data, run, scored, [example.record for example in examples]) if examples else {}
    sections = {
        "Scores": scores_section(rows),
        "The visual tokens of a page": tokens_section(run, scored, examples, pages, missing),
        "What the models read": reading_section(models, examples, pages, missing),
        "Training": training_section(run, missing),
        "The merge": merge_section(run, missing),
        "Time": time_section(rows),
        "How it was made": making_section(run, found),
        "Limits": limits_section(),
    }
    title = title_of(scored)
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections.items())
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    path.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{introduction(claims, scored, rows)}</header>{body}"
        f"{footer(missing)}</main></body></html>\n",
        encoding="utf-8",
    )


def title_of(scored: Sequence[Scored]) -> str:
    """Return the page's title."""
    ratios = sorted({model.ratio for model in scored} - {1})
    if not ratios:
        return "Reading with all of the visual tokens"
    return f"Reading with {' or '.join(portion(ratio) for ratio in ratios)} of the visual tokens"


def introduction(claims: Sequence[str], scored: Sequence[Scored], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the main claim, the figures that matter most, what this is about, and the other claims."""
    lead = (
        f'<p class="lead">{escape(claims[0])}</p>'
        if claims
        else absent("No student was tested, so nothing is claimed.")
    )
    about = (
        "<p>A vision-language model reads a page as hundreds of visual tokens, and they cost most of its memory and "
        "time. Here a trained model, the <b>teacher</b>, is given a small compressor that merges neighbouring visual "
        "tokens. The <b>student</b> is first re-aligned to speak as the teacher does, then trained on, and its snapshots are "
        "merged (FCoT-VL, arXiv 2502.18512). This page shows what that cost and what it gained.</p>"
    )
    others = "".join(f"<li>{escape(claim)}</li>" for claim in claims[1:])
    return lead + key_figures(scored, rows) + about + (f"<ul>{others}</ul>" if others else "")


def key_figures(scored: Sequence[Scored], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return three figures of the last student at the lowest ratio, teacher's beside them."""
    ratio = min((model.ratio for model in scored if model.ratio > 1), default=1)
    student, teacher = final(scored, ratio), with_role(scored, "teacher")
    if student is None or teacher is None:
        return ""
    row = next(row for row in rows if row["name"] == student.name)
    before, after = teacher.row, student.row
    facts = [
        (f"{before['visual_tokens']:.1f} → {after['visual_tokens']:.1f}", "visual tokens a page"),
        (f"{before['seconds_per_page']:.3f} → {after['seconds_per_page']:.3f}", "seconds a page"),
    ]
    if "vs_teacher" in row:
        kept, _, interval = share(row["vs_teacher"]).partition(" [")
        facts.insert(1, (kept, f"of the teacher's mean score, 95 % interval [{interval}"))
    return f'<div class="facts">{"".join(f"<div><b>{fact}</b><span>{name}</span></div>" for fact, name in facts)}</div>'


def tokens_section(
    run: Path,
    scored: Sequence[Scored],
    examples: Sequence[Example],
    pages: Mapping[str, Image.Image],
    missing: list[str],
) -> str:
    """Return the section and write its picture to `tokens.png`; says in `missing` if it cannot be drawn."""
    eyes = eyes_of(run)
    fitting = [example.record for example in examples if example.record.key in pages]
    if eyes is None or not fitting:
        what = "the test shards were not found" if eyes else "no re-alignment with its teacher's folder was found"
        missing.append(f"The visual tokens of a page are not drawn: {what}.")
        return absent(missing[-1])
    record = max(fitting, key=lambda record: (record.visual_tokens <= 5 * eyes.side**2, record.visual_tokens))
    page = pages[record.key]
    panels = {1: "Teacher"}
    for model in scored:
        counted = next((one.visual_tokens for one in model.records if one.key == record.key), None)
        if counted is not None and counted != eyes.count(*page.size, model.ratio):
            missing.append(f"The visual tokens of a page are not drawn: {model.name} was tested with other tiles.")
            return absent(missing[-1])
        if model.ratio > 1:
            panels[model.ratio] = f"Student, ratio {model.ratio}"
    image = png_of(draw_tokens(page, eyes, list(panels.items())), colors=96)
    (run / "tokens.png").write_bytes(image)
    caption = (
        f"Test page {escape(record.key)} as the models see it: cut into tiles, and as it has more than one, a thumbnail of "
        "the whole page is a tile too and its tokens count. Each outlined cell is one visual token for the language model; "
        "the student's are merged from neighbours, tinted in turn."
    )
    return figure(picture(image, "A page cut into tiles and tokens, for teacher and student"), caption)


def footer(missing: Sequence[str]) -> str:
    """Return the end of the page, with what was left out."""
    left_out = f"Left out of this report: {' '.join(missing)} " if missing else ""
    return f"<footer>{escape(left_out)}Written by <code>python -m fcot report</code>.</footer>"
