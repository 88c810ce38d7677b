"""What a benchmark is: its rows, prompt, budget, rules of scoring and published figures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from fcot.errors import UserError
from fcot.evaluation.layouts.find import files_below, layouts_there
from fcot.evaluation.rows import Answer, Row, Scored
from fcot.registry import Registry, snake_case
from fcot.statistics import Interval, bootstrap_interval_by_group

SCORINGS = ("internvl2", "definition")  # the first counts unless a user asks for the other
PROTOCOLS = ("internvl2", "vlmevalkit", "lmms_eval")  # whose prompts are asked
SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Column:
    """A column of the table: scores of units, by group.

    Attributes:
        name: Such as "docvqa" or "mme_perception".
        title: Such as "DocVQA".
        units: Score of each unit by its id, by group. A unit is what is resampled: a row, or MME's picture.
        scale: The column's value is this times the mean over groups of each group's mean.
        in_average: Whether it counts in a row's average: its values are from 0 to 100.
        parts: Scores of units by a finer division that papers print, if there is one.
    """

    name: str
    title: str
    units: Mapping[str, Mapping[str, float]]
    scale: float = 100.0
    in_average: bool = True
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, list[float]]:
        """Scores by group, without ids, in order of ids."""
        return {name: [scores[key] for key in sorted(scores)] for name, scores in self.units.items() if scores}

    @property
    def value(self) -> float:
        """The figure that is printed."""
        means = [sum(scores) / len(scores) for scores in self.groups.values()]
        return self.scale * sum(means) / len(means)

    @property
    def n(self) -> int:
        """Number of units."""
        return sum(len(scores) for scores in self.units.values())

    def interval(self, *, seed: int = 0) -> Interval:
        """Return the figure with its 95 % bootstrap interval, resampled within groups."""
        found = bootstrap_interval_by_group(self.groups, seed=seed)
        return Interval(self.scale * found.mean, self.scale * found.low, self.scale * found.high, found.n)


@dataclass(frozen=True)
class Source:
    """Where the rows of a split were found.

    Attributes:
        layout: "official", "parquet", "tsv" or "internvl".
        files: Files that hold the rows, in order.
        root: Folder that names of pictures are relative to.
    """

    layout: str
    files: tuple[Path, ...]
    root: Path


class Benchmark(ABC):
    """One of the public benchmarks.

    Attributes:
        title: As papers write it.
        splits: Number of rows of each split, the default one first.
        max_tiles: Most tiles of a picture under InternVL2's protocol, thumbnail not counted.
        max_new_tokens: Longest answer under that protocol.
        min_new_tokens: Shortest answer under that protocol.
        licence: Of the data.
        fetch: Command that fetches it.
        places: By split and layout, patterns of the paths of its files; each layout has a method of its name, which
            yields the rows.
    """

    title: ClassVar[str]
    splits: ClassVar[Mapping[str, int]]
    max_tiles: ClassVar[int]
    max_new_tokens: ClassVar[int]
    min_new_tokens: ClassVar[int] = 1
    licence: ClassVar[str]
    fetch: ClassVar[str]
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {}

    def find(self, root: Path, split: str) -> list[Source]:
        """Return where a split's rows are below a folder, one for each copy there, the best layout first.

        Raises:
            UserError: If it is there in none.
        """
        there = layouts_there(root, self.places.get(split, {}), files_below(root))
        if not there:
            looked = [f"{layout}: …/{pattern}" for layout, each in self.places[split].items() for pattern in each]
            raise UserError(
                f"{self.title} {split} is not below {root}. Looked for\n  " + "\n  ".join(looked) + f"\n{self.fetch}"
            )
        return [Source(layout, files, root) for layout, files in there]

    def rows(self, source: Source, split: str) -> list[Row]:
        """Return the rows of a split, numbered in their order.

        Raises:
            UserError: If a file is broken; the message names file and row.
        """
        read: Callable[[Source, str], Iterator[Row]] = getattr(self, source.layout)
        found: list[Row] = []
        try:
            for row in read(source, split):
                found.append(replace(row, id=str(len(found))))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            more = f" and {len(source.files) - 1} more files" if len(source.files) > 1 else ""
            raise UserError(
                f"Row {len(found)} of {self.title} in {source.files[0]}{more} cannot be read ({error!r}).\n{self.fetch}"
            ) from error
        return found

    @abstractmethod
    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the user's turn, without the pictures' placeholders."""

    @abstractmethod
    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return the score of an answer under each of `SCORINGS`, None where no rule can decide."""

    def ignores(self, row: Row, answer: str) -> bool:
        """Return whether the benchmark's own rule leaves a row out of the mean."""
        return False

    def columns(self, scored: Sequence[Scored], scoring: str) -> list[Column]:
        """Return the columns of scored rows; by default one, with one group for each of the rows' own."""
        units: dict[str, dict[str, float]] = {}
        for each in scored:
            if not each.ignored:
                units.setdefault(each.row.group, {})[each.row.id] = each.scores[scoring] or 0.0
        return [Column(self.name(), self.title, units)]

    def submission(self, rows: Sequence[Row], answers: Mapping[str, Answer], split: str) -> dict[str, str]:
        """Return the files that a test server or an official judge reads, text by name; none by default."""
        return {}

    def refuse(self, protocol: str, *without: str) -> None:
        """Refuse protocols that have no prompt for this benchmark.

        Raises:
            UserError: If it is one of them.
        """
        if protocol in without:
            raise UserError(f"The protocol {protocol} has no prompt of its own for {self.title}.\nUse another one.")

    def notes(self, rows: Sequence[Row], source: Source) -> list[str]:
        """Return what a user should know of the rows; nothing by default."""
        return []

    def counted(self, scored: Sequence[Scored]) -> list[str]:
        """Return what a user should know of scored rows; nothing by default."""
        return []

    @classmethod
    def name(cls) -> str:
        """Return its short name."""
        return snake_case(cls.__name__)


def lacking(title: str, names: Iterable[str], rows: Iterable[Row]) -> list[str]:
    """Return a warning if groups that a score is made of have no rows."""
    there = {row.group for row in rows}
    missing = [name for name in names if name not in there]
    return [f"{title}: there are no rows of {', '.join(missing)}, and its score is of the others"] if missing else []


BENCHMARKS: Registry[type[Benchmark]] = Registry("benchmark", base=Benchmark)
