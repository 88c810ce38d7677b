"""Answer sets with models: what is not answered yet, shared among processes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from fcot.errors import UserError
from fcot.evaluation.rows import Answer
from fcot.evaluation.run.journal import Journal
from fcot.evaluation.run.pages import Page
from fcot.evaluation.run.plan import batches
from fcot.evaluation.run.progress import Progress
from fcot.evaluation.run.reader import Asked, Budget, Reader
from fcot.evaluation.run.sets import BenchmarkSet

PATIENCE = timedelta(days=7)  # processes wait for the slowest at the end of each set


@dataclass(frozen=True)
class Options:
    """How sets are answered.

    Attributes:
        protocol: Whose prompts.
        max_tiles: Instead of the protocol's.
        max_new_tokens: Instead of the protocol's.
        batch_size: Most rows of a batch.
        batch_tokens: Most tokens of a batch.
    """

    protocol: str = "internvl2"
    max_tiles: int | None = None
    max_new_tokens: int | None = None
    batch_size: int = 32
    batch_tokens: int = 32768

    def budget(self, of: BenchmarkSet) -> Budget:
        """Return the budget of a set."""
        kind = of.benchmark
        return Budget(self.max_tiles or kind.max_tiles, self.max_new_tokens or kind.max_new_tokens, kind.min_new_tokens)


@dataclass(frozen=True)
class Processes:
    """The processes that share the rows.

    Attributes:
        rank: Number of this one.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            from torch import distributed

            distributed.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the processes that torchrun started; one alone otherwise."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    from torch import distributed

    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), world)
    finally:
        distributed.destroy_process_group()


def answer_set(
    reader: Reader,
    of: BenchmarkSet,
    pages: Mapping[str, list[Page]],
    folder: Path,
    options: Options,
    among: Processes,
    label: str,
) -> dict[str, Answer]:
    """Answer the rows of a set that are not answered yet, and return all answers by row.

    Args:
        reader: The model.
        of: The set.
        pages: Of each row.
        folder: Where answers are kept.
        options: How to answer.
        among: The processes that share the rows.
        label: The model's name, for messages.
    """
    budget = options.budget(of)
    asked = {row.id: Asked(row, of.benchmark.prompt(row, options.protocol), pages[row.id]) for row in of.rows}
    settings = {
        "benchmark": of.benchmark.name(),
        "split": of.split,
        "protocol": options.protocol,
        **asdict(budget),
        "weights": reader.weights_sha256,
        "dtype": reader.dtype,
        "reduce": reader.reducer_settings,
        **reader.counts.asked_for,
        "rows": f"{len(of.rows)} rows {of.sha256(dict(pages))[:16]}",
        "batch_size": options.batch_size,
        "batch_tokens": options.batch_tokens,
    }
    if among.rank:
        among.wait()
    journal = Journal(folder, settings, among.rank)
    if not among.rank:
        among.wait()
    costs = {row_id: reader.cost(each, budget) for row_id, each in asked.items()}
    plan = batches(of.rows, pages, costs, batch_size=options.batch_size, budget=options.batch_tokens)
    there = journal.read()
    among.wait()  # all have seen the same answers before one writes more
    pending = [batch for batch in plan if any(row_id not in there for row_id in batch)]
    mine = pending[among.rank :: among.world]
    rows_left = sum(map(len, mine))
    with Progress(
        f"{label}: {of.benchmark.title} {of.split}", sum(costs[each] for ids in mine for each in ids), rows_left
    ) as shown:
        for ids, answers in zip(
            mine, reader.read(([asked[each] for each in ids] for ids in mine), budget), strict=True
        ):
            journal.append(answer for answer in answers if answer.id not in there)
            shown.advance(sum(costs[each] for each in ids), len(ids))
    among.wait()
    return journal.read()


def labels(models: Sequence[Path]) -> list[str]:
    """Return a name for each model folder: its last part, or as many parts as tell it from the others.

    Raises:
        UserError: If a folder is given twice.
    """
    parts = [model.resolve().parts for model in models]
    if len(set(parts)) < len(parts):
        raise UserError("A model is given twice.\nGive each folder once.")
    deepest = max(map(len, parts))
    for depth in range(1, deepest + 1):
        found = ["/".join(each[-depth:]) for each in parts]
        if len(set(found)) == len(found):
            return found
    raise AssertionError("resolved folders differ")
