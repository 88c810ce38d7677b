"""A page of generated samples for a person to judge, complete in one file."""

import base64
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fcot.errors import SampleError, UserError
from shards.factory.question import Question
from shards.factory.questions import question_of
from shards.format.manifest import read_manifest
from shards.format.shard_set import ShardSet

HERE = Path(__file__).parent
MIME = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp"}


def write_review(folder: Path, output: Path, samples: int, seed: int) -> int:
    """Write the page.

    Args:
        folder: A set that the factory wrote.
        output: The HTML file.
        samples: How many samples are drawn.
        seed: Of the draw.

    Returns:
        How many samples are on the page.

    Raises:
        UserError: If the set holds nothing that was generated, or the file cannot be written.
    """
    if "data_factory" not in (read_manifest(folder) or {}):
        raise UserError(f"{folder} was not written by `fcot data`.\nGive the folder of such a set.")
    source = ShardSet(folder)
    sources, of = source.names("source")
    made = {place for place, name in enumerate(sources) if "+" in name}
    numbers = [number for number in source.usable().tolist() if of[number] in made]
    if not numbers:
        raise UserError(f"{folder} holds nothing that was generated.\nGive another set.")
    shown = [found for number in numbers_drawn(numbers, samples, seed) if (found := sample_of(source, number))]
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("review.html").render(
        title=f"Review of {folder.name}", samples=shown, total=len(numbers), seed=seed
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error}).\nGive another file: --output FILE.html.") from error
    return len(shown)


def numbers_drawn(numbers: list[int], count: int, seed: int) -> list[int]:
    """Return so many of the numbers, drawn at random, in order."""
    return sorted(random.Random(seed).sample(numbers, min(count, len(numbers))))


def sample_of(source: ShardSet, number: int) -> Mapping[str, Any] | None:
    """Return what is shown of a sample; None if it cannot be read."""
    try:
        question = question_of(source, number)
    except SampleError:
        return None
    origin = question.record.get("origin", {})
    return {
        "number": number,
        "task": question.known.task,
        "key": origin.get("key", question.key),
        "solved": origin.get("solved", "?"),
        "pictures": pictures(question),
        "question": question.known.text,
        "known": str(question.known.truth.truth),
        "answer": question.known.gold,
    }


def pictures(question: Question) -> list[str]:
    """Return the pictures of a question as data URLs."""
    return [
        f"data:image/{MIME[kind.lower()]};base64,{base64.b64encode(data).decode()}" for kind, data in question.images
    ]
