"""What the models read on some test pages, beside each other, with what differs from the reference marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape

import numpy as np
from PIL import Image

from fcot.evaluation.records import Record
from fcot.report.markup import absent, picture, png_of
from fcot.report.rows import final, with_role
from fcot.report.runs import TestedModel

EXAMPLES = 4
LONGEST_SIDE = 900  # pixels of a page in the report
GARBLED = 0.5  # below this likeness, marking single letters only adds to the noise


@dataclass(frozen=True)
class Example:
    """A page that several models read.

    Attributes:
        record: The first model's answer.
        differing: How many of the task's pages not all models answer alike.
        pages: How many pages the task has.
    """

    record: Record
    differing: int
    pages: int


def readers(scored: Sequence[TestedModel]) -> list[TestedModel]:
    """Return the models whose answers are shown: teacher; at the lowest ratio start, re-aligned and last student."""
    ratio = min((model.ratio for model in scored if model.ratio > 1), default=1)
    roles = [with_role(scored, "teacher"), *(with_role(scored, role, ratio) for role in ("start", "realigned"))]
    chosen = [*roles, final(scored, ratio)]
    found = list(dict.fromkeys(model.name for model in chosen if model and model.records))
    return [model for model in scored if model.name in found]


def choose(models: Sequence[TestedModel]) -> list[Example]:
    """Choose a page of each of the tasks with the longest answers: the first that not all models answer alike.

    Only pages that all models answered are shown: they may have been tested on different ones.
    """
    if not models:
        return []
    answers = [{record.key: record.prediction for record in model.records} for model in models]
    by_task: dict[str, list[Record]] = {}
    for record in models[0].records:
        if all(record.key in said for said in answers):
            by_task.setdefault(record.task, []).append(record)

    def length(task: str) -> float:
        return float(np.mean([len(record.references[0]) for record in by_task[task]]))

    chosen = []
    for task in sorted(by_task, key=length, reverse=True)[:EXAMPLES]:
        records = by_task[task]
        differing = [one for one in records if len({said[one.key] for said in answers}) > 1]
        chosen.append(Example((differing or records)[0], len(differing), len(records)))
    return chosen


def examples_section(
    models: Sequence[TestedModel], examples: Sequence[Example], pages: Mapping[str, Image.Image], missing: list[str]
) -> str:
    """Return the section; says in `missing` if there are no answers or no pages."""
    if not examples:
        missing.append("No answers were kept of pages that all models read (test.jsonl), so none are shown.")
        return absent(missing[-1])
    if not pages:
        missing.append("The test shards were not found, so pages are not shown; give --data FOLDER.")
    note = "" if pages else absent(missing[-1])
    split = models[0].row["split"]
    return (
        "<p>Nobody picked these pages by eye: for each of the tasks with the longest answers this is the first page "
        f"of the {escape(str(split))} split that not all models shown answer alike. In the answers, "
        "<ins>this</ins> is not in the reference and <del>this</del> is missing from the answer.</p>"
        + note
        + "".join(example_block(example, models, pages.get(example.record.key)) for example in examples)
    )


def example_block(example: Example, models: Sequence[TestedModel], page: Image.Image | None) -> str:
    """Return one page with what each model says of it."""
    record = example.record
    alike = f"differ on {example.differing} of {example.pages} pages of this task"
    cards = [card("Reference", "the right answer<br>&nbsp;", escape(visible(record.references[0])), "reference")]
    for model in models:
        said = next(one for one in model.records if one.key == record.key)
        note = f"score {model.score(said):.2f}<br>{said.visual_tokens} tokens, ratio {model.ratio}"
        cards.append(card(model.label, note, marked(said.prediction, record.references)))
    shown = ""
    if page is not None:
        small = page.copy()
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        scale = 1.5 if small.width * 1.5 <= LONGEST_SIDE // 2 else 1.0
        alt = f"Test page {record.key}, task {record.task}"
        shown = picture(png_of(small), alt, width=round(small.width * scale))
    return (
        f'<article class="example"><div class="asked">{shown}<div>'
        f"<h3>{escape(record.task)}</h3><p><q>{escape(record.question)}</q></p>"
        f"<p><small>Page {escape(record.key)}. These models {alike}.</small></p></div></div>"
        f'<div class="cards">{"".join(cards)}</div></article>'
    )


def card(title: str, note: str, text: str, kind: str = "") -> str:
    """Return what one model says; note and text are HTML."""
    return f'<div class="card {kind}"><h4>{escape(title)}</h4><small>{note}</small><pre>{text}</pre></div>'


def marked(prediction: str, references: Sequence[str]) -> str:
    """Return a prediction as HTML with its differences from the nearest reference marked."""
    said = visible(prediction)
    candidates = [(visible(reference), matcher(visible(reference), said)) for reference in references]
    wanted, nearest = max(candidates, key=lambda candidate: candidate[1].ratio())
    if nearest.ratio() < GARBLED:
        return f"<ins>{escape(said)}</ins>" if said else "<del>(nothing)</del>"
    pieces = []
    for kind, a, b, c, d in nearest.get_opcodes():
        if kind == "equal":
            pieces.append(escape(said[c:d]))
            continue
        if a < b:
            pieces.append(f"<del>{escape(shown_breaks(wanted[a:b]))}</del>")
        if c < d:
            pieces.append(f"<ins>{escape(said[c:d])}</ins>")
    return "".join(pieces)


def matcher(reference: str, prediction: str) -> "SequenceMatcher[str]":
    """Return a comparison of two texts by letter."""
    return SequenceMatcher(None, reference, prediction, autojunk=False)


def shown_breaks(text: str) -> str:
    """Return missing text with its line breaks as symbols, so that it does not break the lines of the answer."""
    return text.replace("\n", "↵")


def visible(text: str) -> str:
    """Return a text with characters that a browser would not show replaced: models may generate any byte."""
    return "".join(letter if letter == "\n" or letter.isprintable() else "�" for letter in text)
