"""Find the sets that a user names, and look at their pages."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fcot.errors import UserError
from fcot.evaluation.benchmarks import BENCHMARKS, Benchmark, Source
from fcot.evaluation.rows import Row
from fcot.evaluation.run.pages import Page, remembered, survey


@dataclass(frozen=True)
class BenchmarkSet:
    """A split of a benchmark, found on disk.

    Attributes:
        benchmark: The benchmark.
        split: Name of the split.
        source: Where it was found.
        rows: Its rows.
        whole: Whether these are all rows of the split.
    """

    benchmark: Benchmark
    split: str
    source: Source
    rows: list[Row]
    whole: bool

    @property
    def name(self) -> str:
        """Return what its folders are called."""
        return f"{self.benchmark.name()}-{self.split}"

    @cached_property
    def made_of(self) -> str:
        """Names, sizes and times of its files."""
        stats = [(str(file), file.stat()) for file in self.source.files]
        return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats) + f" {len(self.rows)}"

    def look(self, seen: Callable[[], object] = lambda: None, threads: int = 4) -> dict[str, list[Page]]:
        """Return the pages of each row."""
        return survey(self.rows, seen, threads)

    def pages(self, folder: Path, seen: Callable[[], object], threads: int) -> dict[str, list[Page]]:
        """Return the pages of each row, looked at once and kept in a folder."""
        file = folder / f"{self.name}.json"
        return remembered(file, self.rows, self.made_of, lambda: self.look(seen, threads))

    def sha256(self, pages: dict[str, list[Page]]) -> str:
        """Return a hash of what is asked: ids, questions, options and pages."""
        digest = hashlib.sha256()
        for row in self.rows:
            shown = [page.sha256 for page in pages[row.id]]
            digest.update(repr((row.id, row.question, dict(row.choices), shown)).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def find_set(
    name: str, root: Path, *, layout: str | None = None, limit: int | None = None
) -> tuple[BenchmarkSet, list[str]]:
    """Find a set and read its rows.

    Args:
        name: Such as "docvqa", or "docvqa/test" for another split than the default.
        root: Folder to look in.
        layout: The layout to read; None for the best that is there.
        limit: Take only the first rows.

    Returns:
        The set, and notes that a user should read.

    Raises:
        UserError: If there is no such benchmark, split, layout or set, or a file is broken.
    """
    short, _, split = name.partition("/")
    benchmark = BENCHMARKS[short]()
    split = split or next(iter(benchmark.splits))
    if split not in benchmark.splits:
        raise UserError(f"{benchmark.title} has no split {split!r}.\nIts splits are {', '.join(benchmark.splits)}.")
    found = benchmark.find(root, split)
    wanted = [source for source in found if layout in (None, source.layout)]
    if not wanted:
        there = ", ".join(source.layout for source in found)
        raise UserError(
            f"{benchmark.title} is below {root} in {there or 'no layout'}, not as {layout}.\nLeave --layout out."
        )
    source, notes = wanted[0], []
    if len(wanted) > 1:
        others = ", ".join(f"{other.layout} ({other.files[0]})" for other in wanted[1:])
        notes.append(f"{benchmark.title}: read as {source.layout} ({source.files[0]}), which is also there as {others}")
    rows = benchmark.rows(source, split)
    notes += benchmark.notes(rows[:limit], source)
    expected = benchmark.splits[split]
    if len(rows) != expected:
        notes.append(
            f"{benchmark.title} {split} has {len(rows)} rows in {source.files[0]}, and the split has {expected}: "
            "it stays out of the table unless --allow_partial"
        )
    whole = len(rows) == expected and (limit is None or limit >= expected)
    return BenchmarkSet(benchmark, split, source, rows[:limit], whole), notes


def find_sets(
    names: str, root: Path, *, layout: str | None, limit: int | None
) -> tuple[Sequence[BenchmarkSet], list[str]]:
    """Find several sets, named with commas between them; see `find_set`.

    Raises:
        UserError: Also if one is named twice.
    """
    named = [each.strip() for each in names.split(",") if each.strip()]
    if not named or len(set(named)) < len(named):
        raise UserError(f"--benchmarks is {names!r}.\nName each set once, such as docvqa,chartqa.")
    found = [find_set(name, root, layout=layout, limit=limit) for name in named]
    return [each for each, _ in found], [note for _, notes in found for note in notes]
