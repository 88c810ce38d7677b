"""A model's scored answers to each set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean

from fcot.evaluation.benchmarks.benchmark import SCORINGS, Benchmark, Column
from fcot.evaluation.rows import Answer, Row, Scored


@dataclass(frozen=True)
class TestedSet:
    """Scored answers to a set.

    Attributes:
        benchmark: The benchmark.
        split: Name of the split.
        whole: Whether all rows of the split are there.
        scored: Rows with answers and scores.
    """

    benchmark: Benchmark
    split: str
    whole: bool
    scored: Sequence[Scored]

    @classmethod
    def of(
        cls, benchmark: Benchmark, split: str, whole: bool, rows: Sequence[Row], answers: Mapping[str, Answer]
    ) -> "TestedSet":
        """Score answers; a row without an answer is wrong."""
        scored = []
        for row in rows:
            answer = answers[row.id]
            scores = dict.fromkeys(SCORINGS, 0.0) if answer.failed else benchmark.score(row, answer.text)
            scored.append(Scored(row, answer, scores, not answer.failed and benchmark.ignores(row, answer.text)))
        return cls(benchmark, split, whole, scored)

    @property
    def name(self) -> str:
        """Name of its folders."""
        return f"{self.benchmark.name()}-{self.split}"

    @property
    def has_references(self) -> bool:
        """Whether the split's answers are known."""
        return any(each.row.references for each in self.scored)

    @property
    def failed(self) -> list[Scored]:
        """Rows that could not be asked."""
        return [each for each in self.scored if each.answer.failed]

    def undecided(self, scoring: str) -> int:
        """Return how many rows no rule can decide."""
        return sum(each.scores[scoring] is None for each in self.scored)

    def columns(self, scoring: str) -> list[Column]:
        """Return its columns under a scoring; none if its answers are not known.

        A column of another split than the benchmark's default is named with it, and is in no average.
        """
        if not self.has_references:
            return []
        found = [column for column in self.benchmark.columns(self.scored, scoring) if column.groups]
        if self.split == next(iter(self.benchmark.splits)):
            return found
        return [
            replace(each, name=f"{each.name}/{self.split}", title=f"{each.title} {self.split}", in_average=False)
            for each in found
        ]

    def only(self, ids: set[str]) -> "TestedSet":
        """Return the same for some rows."""
        return TestedSet(self.benchmark, self.split, False, [each for each in self.scored if each.row.id in ids])


@dataclass(frozen=True)
class TestedModel:
    """A model and its sets.

    Attributes:
        label: What it is called.
        ratio: How many visual tokens become one.
        sets: What it answered.
        reduce: Settings of a reducer, if there was one.
        asked: Visual tokens of a tile or the budget that an elastic student was asked for, by name.
    """

    label: str
    ratio: int
    sets: Sequence[TestedSet]
    reduce: Mapping[str, object] = field(default_factory=dict)
    asked: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def visual_tokens(self) -> float:
        """Mean visual tokens of a row that could be asked; 0 if none could."""
        asked = [each.answer for of in self.sets for each in of.scored if not each.answer.failed]
        return fmean(answer.visual_tokens for answer in asked) if asked else 0.0

    def columns(self, scoring: str, *, allow_partial: bool = False) -> dict[str, tuple[Column, TestedSet]]:
        """Return the columns of its sets by name, of whole ones only unless partial ones are allowed."""
        wanted = [of for of in self.sets if of.whole or allow_partial]
        return {column.name: (column, of) for of in wanted for column in of.columns(scoring)}
