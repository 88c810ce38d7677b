"""The tables of the paper as data: every cell as it is printed, with the split and size of its column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

PAPER = Path(__file__).with_name("paper.yaml")
EMPTY = "-"  # a cell that the paper leaves empty


@dataclass(frozen=True)
class Printed:
    """A number as it is printed, so that its last digit says how it was rounded.

    Attributes:
        text: Its digits, such as "46.30".
    """

    text: str

    @property
    def value(self) -> Fraction:
        """The number, exactly."""
        return Fraction(self.text)

    @property
    def unit(self) -> Fraction:
        """One in the last printed digit: 1/100 of "46.30"."""
        return Fraction(1, 10 ** len(self.text.partition(".")[2]))

    def __float__(self) -> float:
        return float(self.value)

    def rounds(self, exact: Fraction | float) -> bool:
        """Return whether an exact number is printed like this; a tie may have gone either way."""
        return abs(Fraction(exact) - self.value) <= self.unit / 2

    def truncates(self, exact: Fraction | float) -> bool:
        """Return whether an exact number is printed like this when the digits after the last are cut off."""
        return self.value <= Fraction(exact) < self.value + self.unit


@dataclass(frozen=True)
class Benchmark:
    """A column's benchmark.

    Attributes:
        score: What is averaged, in words.
        hits: A score is hits over questions, in percent.
        mean: A score is a mean over questions of parts between 0 and 1.
        questions: Size of each split, by its name.
    """

    score: str
    hits: bool
    mean: bool
    questions: Mapping[str, int]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        model: The teacher's name.
        method: What was done to it.
        removed: Share of the visual tokens that is taken away, in percent; None if the table does not say.
        cells: Printed numbers by column, without empty cells.
        average: The printed average, None if there is none or it could not be read.
    """

    model: str
    method: str
    removed: int | None
    cells: Mapping[str, Printed]
    average: Printed | None = None

    @property
    def name(self) -> str:
        """Model, method and removed share in a few words."""
        removed = f", {self.removed} % removed" if self.removed else ""
        return f"{self.model.removeprefix('InternVL2-')} {self.method}{removed}"


@dataclass(frozen=True)
class Paper:
    """What the paper prints.

    Attributes:
        source: Where it is.
        benchmarks: By column name.
        published: What the teachers' makers published, by model, column and split.
        tables: Rows by number of the table.
        hours: Durations that are given for one stage of training.
        settings: Table 6, by setting and stage; None is a blank cell.
        unknown: What could not be read, a sentence each.
    """

    source: str
    benchmarks: Mapping[str, Benchmark]
    published: Mapping[str, Mapping[str, Mapping[str, Printed]]]
    tables: Mapping[int, Sequence[Row]]
    hours: Sequence[int] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unknown: Sequence[str] = ()

    def teacher(self, row: Row, table: int = 1) -> Row:
        """Return the uncompressed model of a row, from the same table."""
        return next(each for each in self.tables[table] if (each.model, each.method) == (row.model, "teacher"))


def read_paper(path: Path = PAPER) -> Paper:
    """Return the tables in a file of the form of `paper.yaml`."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Paper(
        source=content["source"],
        benchmarks={name: Benchmark(**each) for name, each in content["benchmarks"].items()},
        published={
            model: {column: {split: Printed(text) for split, text in each.items()} for column, each in columns.items()}
            for model, columns in content["published"].items()
        },
        tables={number: rows_of(each) for number, each in content["tables"].items()},
        hours=content["hours"],
        settings=content["settings"],
        unknown=content["unknown"],
    )


def rows_of(table: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a table, as many cells in each as the table has columns."""
    rows = []
    for row in table["rows"]:
        texts = row["cells"].split()
        cells = {column: Printed(text) for column, text in zip(table["columns"], texts, strict=True) if text != EMPTY}
        average = row.get("average")
        rows.append(Row(row["model"], row["method"], row["removed"], cells, average and Printed(average)))
    return rows
