"""What the models read on some test pages, beside each other, with what differs from the reference marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from fcot.evaluation.records import Record
from fcot.look.differences import visible
from fcot.report.cells import Picture, png_of
from fcot.report.rows import final, with_role
from fcot.report.runs import TestedModel

EXAMPLES = 4
LONGEST_SIDE = 900  # pixels of a page in the report
GARBLED = 0.5  # below this likeness, marking single letters only adds to the noise
ADDED, LACKING = Markup("<ins>{}</ins>"), Markup("<del>{}</del>")  # their `format` escapes what is put in


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
) -> dict[str, Any] | str:
    """Return what the section shows, or why it shows nothing; says in `missing` if there are no answers or no pages."""
    if not examples:
        missing.append("No answers were kept of pages that all models read (test.jsonl), so none are shown.")
        return missing[-1]
    if not pages:
        missing.append("The test shards were not found, so pages are not shown; give --data FOLDER.")
    return {
        "split": models[0].row["split"],
        "absent": None if pages else missing[-1],
        "examples": [shown(example, models, pages.get(example.record.key)) for example in examples],
    }


def shown(example: Example, models: Sequence[TestedModel], page: Image.Image | None) -> dict[str, Any]:
    """Return one page with what each model says of it."""
    record = example.record
    said = [next(one for one in model.records if one.key == record.key) for model in models]
    cards = [
        {
            "label": model.label,
            "score": f"{model.score(one):.2f}",
            "tokens": one.visual_tokens,
            "ratio": model.ratio,
            "marked": marked(one.prediction, record.references),
        }
        for model, one in zip(models, said, strict=True)
    ]
    return {
        "record": record,
        "differing": example.differing,
        "pages": example.pages,
        "page": None if page is None else small_picture(page, record),
        "reference": visible(record.references[0]),
        "cards": cards,
    }


def small_picture(page: Image.Image, record: Record) -> Picture:
    """Return a page at the size it has in a report."""
    small = page.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    scale = 1.5 if small.width * 1.5 <= LONGEST_SIDE // 2 else 1.0
    return Picture(png_of(small), f"Test page {record.key}, task {record.task}", width=round(small.width * scale))


def marked(prediction: str, references: Sequence[str]) -> Markup:
    """Return a prediction as HTML with its differences from the nearest reference marked."""
    said = visible(prediction)
    candidates = [(visible(reference), matcher(visible(reference), said)) for reference in references]
    wanted, nearest = max(candidates, key=lambda candidate: candidate[1].ratio())
    if nearest.ratio() < GARBLED:
        return ADDED.format(said) if said else LACKING.format("(nothing)")
    pieces = []
    for kind, a, b, c, d in nearest.get_opcodes():
        if kind == "equal":
            pieces.append(escape(said[c:d]))
            continue
        if a < b:
            pieces.append(LACKING.format(shown_breaks(wanted[a:b])))
        if c < d:
            pieces.append(ADDED.format(said[c:d]))
    return Markup("").join(pieces)


def matcher(reference: str, prediction: str) -> "SequenceMatcher[str]":
    """Return a comparison of two texts by letter."""
    return SequenceMatcher(None, reference, prediction, autojunk=False)


def shown_breaks(text: str) -> str:
    """Return missing text with its line breaks as symbols, so that it does not break the lines of the answer."""
    return text.replace("\n", "↵")
