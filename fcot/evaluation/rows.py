"""A question of a benchmark, the same whatever layout it was read from, and its answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Picture:
    """An encoded picture, read when it is needed and never re-encoded.

    Attributes:
        name: Where it is, for messages.
        read: Returns its bytes.
    """

    name: str
    read: Callable[[], bytes] = field(compare=False)


@dataclass(frozen=True)
class Row:
    """A question of a benchmark.

    Attributes:
        id: Unique within a split, the same in every layout that knows it.
        pictures: Its pages, in order.
        question: As the benchmark's files have it.
        references: Accepted answers; none in a split whose answers are kept on a server.
        choices: Text of each option by its letter, in order; empty for open questions.
        group: Category within the benchmark; "" if there is one only.
        fields: What else scoring or a submission needs, JSON values by the benchmark's own names.
    """

    id: str
    pictures: tuple[Picture, ...]
    question: str
    references: tuple[str, ...]
    choices: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a model said to a row.

    Attributes:
        id: Of the row.
        text: The answer; empty if there is none.
        tiles: Tiles of its pages.
        visual_tokens: Visual tokens of its pages, after a reducer if there is one (mean over layers).
        size: Width and height of the first page in pixels.
        failed: Why there is no answer; "" if there is one.
        ratios: How many visual tokens of each tile became one.
    """

    id: str
    text: str
    tiles: int = 0
    visual_tokens: float = 0.0
    size: tuple[int, int] = (0, 0)
    failed: str = ""
    ratios: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Scored:
    """A row with its answer and scores.

    Attributes:
        row: The row.
        answer: The answer.
        scores: By scoring ("internvl2", "definition"), from 0 to 1; None where no rule can decide.
        ignored: Left out of the mean by the benchmark's own rule.
    """

    row: Row
    answer: Answer
    scores: Mapping[str, float | None]
    ignored: bool = False
