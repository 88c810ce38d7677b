"""A question with its known answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shards.factory.verifiers.verifier import Task


@dataclass(frozen=True)
class Known:
    """A question without its pictures: all that judging needs.

    Attributes:
        number: Of the sample in its set.
        task: Name of the task.
        text: The question.
        gold: The answer in the set, whole.
        truth: The known answer, further accepted ones, the options.
    """

    number: int
    task: str
    text: str
    gold: str
    truth: Task

    @property
    def chance(self) -> float | None:
        """How often a guess among the options is right; None if the question has no options."""
        return 1 / len(self.truth.options) if self.truth.options else None


@dataclass(frozen=True)
class Question:
    """A sample as a question with a known answer.

    Attributes:
        known: The question and its answer.
        shard: Number of its shard in the set.
        key: Its key there.
        turns: The conversation, without the last answer.
        pictures: Bytes of each picture by its member's name, in order.
        record: The sample's JSON.
    """

    known: Known
    shard: int
    key: str
    turns: Sequence[Mapping[str, str]]
    pictures: Mapping[str, bytes] = field(repr=False)
    record: Mapping[str, Any] = field(repr=False)

    @property
    def images(self) -> list[tuple[str, bytes]]:
        """Extension and bytes of each picture."""
        return [(name.rpartition(".")[2], data) for name, data in self.pictures.items()]
