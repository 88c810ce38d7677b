"""Read the questions of a set: what is asked of each sample, and what its known answer is."""

import re
from collections.abc import Iterator

from fcot.errors import SampleError
from fcot.internvl.prompts import IMAGE
from shards.factory.question import Known, Question
from shards.factory.verifiers.conclusion import concluded
from shards.factory.verifiers.verifier import Task
from shards.feed.conversation import readable, references_of
from shards.feed.decode import image_number, is_image, record_of
from shards.format.shard_set import ShardSet

_EITHER = re.compile(r"([^,:;?\n]+?)\s+or\s+([^,:;?\n]+?)\s*\?\s*$")
_OPENING = re.compile(r"^(?:is|are|was|were)\s+(?:it|this|that|they|there)\s+", re.IGNORECASE)
_OPTION = re.compile(r"^\s*\(?([A-H])[.):]\s+(.+?)\s*$", re.MULTILINE)


def question_of(source: ShardSet, number: int) -> Question:
    """Return the question of a sample.

    Raises:
        SampleError: With the reason the sample cannot be used.
    """
    raw = source.read(number)
    if "json" not in raw:
        raise SampleError("missing_json", "the sample has no .json member")
    record = record_of(raw["json"])
    pictures = {name: raw[name] for name in sorted(filter(is_image, raw), key=image_number)}
    conversation = readable(record, len(pictures))
    shown, gold = (turn["value"] for turn in conversation[-2:])
    if not isinstance(shown, str) or not isinstance(gold, str):
        raise SampleError("bad_json", "the last question or answer is no text")
    text = shown.replace(IMAGE, "").strip()
    truths = [concluded(each) for each in references_of(record, conversation)]
    options = options_of(text, truths[0])
    known = Known(
        number, str(record.get("task", "unknown")), text, gold, Task(truths[0], tuple(truths[1:]), text, options)
    )
    return Question(known, source.place(number)[0], str(raw["__key__"]), conversation[:-1], pictures, record)


def questions(source: ShardSet, shard: int, limit: int | None = None) -> Iterator[Question | SampleError]:
    """Yield the questions of a shard's usable samples in order; the reason, where a sample cannot be used.

    Args:
        source: The set.
        shard: Number of the shard.
        limit: Only samples of the set with lower numbers.
    """
    usable = source.usable()
    stop = int(source.first[shard + 1]) if limit is None else min(limit, int(source.first[shard + 1]))
    for number in usable[(usable >= source.first[shard]) & (usable < stop)]:
        try:
            yield question_of(source, int(number))
        except SampleError as error:
            yield error


def options_of(question: str, truth: str) -> tuple[str, ...]:
    """Return the texts of options A, B, … that a question lists, a line each, or of "Is it this or that?".

    Args:
        question: Its text.
        truth: The known answer, which is one of "this" and "that".
    """
    if either := _EITHER.search(question):
        first, second = (part.strip() for part in either.groups())
        if first.casefold().endswith(f" {truth.casefold()}"):
            first = first[-len(truth) :]
        first = _OPENING.sub("", first)
        if truth.casefold() in (first.casefold(), second.casefold()):
            return first, second
    found: list[str] = []
    for letter, text in _OPTION.findall(question):
        if letter != "ABCDEFGH"[len(found)]:
            break
        found.append(text)
    return tuple(found) if len(found) > 1 else ()
