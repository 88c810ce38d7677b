"""The verb `bench evaluate`: rows of a benchmark answered together, beside one after another."""

from pathlib import Path
from typing import Any, Literal

import torch

from fcot.bench.measure import Gain, Timing, timed_in_turn
from fcot.bench.output import Table, publish
from fcot.bench.picture import Bars
from fcot.convert.auto_convert import native_folder
from fcot.evaluation.run.plan import batches
from fcot.evaluation.run.reader import Asked, Reader
from fcot.evaluation.run.session import Options
from fcot.evaluation.run.sets import find_set
from fcot.internvl.checkpoint import ModelFolder


def evaluate(
    model: Path,
    benchmark: str = "docvqa",
    root: Path = Path("data/benchmarks"),
    rows: int = 40,
    max_tiles: int | None = None,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
    batch_tokens: int = 32768,
    device: str = "cpu",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    repeats: int = 3,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Time `fcot evaluate` on the first rows of a benchmark, beside a plain loop over its rows.

    The loop decodes and cuts the page of a row, answers it, and goes on to the next; both are the same code otherwise.
    Loading the model and reading the files are not counted.

    Args:
        model: Folder of a student or a native InternVL.
        benchmark: Short name of the benchmark.
        root: Folder that holds its data.
        rows: How many of its rows.
        max_tiles: Most tiles of a page, instead of the protocol's.
        max_new_tokens: Longest answer, instead of the protocol's.
        batch_size: Most rows answered together.
        batch_tokens: Most tokens of a batch.
        device: Where to run.
        dtype: Type of the weights; auto keeps the stored type.
        repeats: How often each is timed.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.
    """
    of, _ = find_set(benchmark, root, limit=rows)
    options = Options("internvl2", max_tiles, max_new_tokens, batch_size, batch_tokens)
    budget, pages = options.budget(of), of.look()
    asked = {row.id: Asked(row, of.benchmark.prompt(row), pages[row.id]) for row in of.rows}
    reader = Reader(ModelFolder(native_folder(model)), device=device, dtype=dtype)
    costs = {row_id: reader.cost(each, budget) for row_id, each in asked.items()}
    plan = batches(of.rows, pages, costs, batch_size=batch_size, budget=batch_tokens)
    said: dict[str, dict[str, str]] = {}

    def together() -> None:
        answered = reader.read(([asked[each] for each in ids] for ids in plan), budget)
        said["together"] = {answer.id: answer.text for answers in answered for answer in answers}

    def one_by_one() -> None:
        answered = [
            answer
            for each in asked.values()
            for answer in reader.answer([reader.prepare(each, reader.cut(each, budget))], budget)
        ]
        said["one by one"] = {answer.id: answer.text for answer in answered}

    times = timed_in_turn((together, one_by_one), torch.device(device), repeats)
    ours, loop, gain = Timing.of(times[0]), Timing.of(times[1]), Gain.over(times[1], times[0])
    same = sum(said["together"][each] == said["one by one"][each] for each in asked)
    shown = len({tuple(page.sha256 for page in pages[row.id]) for row in of.rows})
    found: dict[str, Any] = {
        "bench": "evaluate",
        "benchmark": of.name,
        "rows": len(asked),
        "pages": shown,
        "batches": len(plan),
        "device": device,
        "together": {"seconds": ours.json(), "rows_a_second": len(asked) / ours.median},
        "one_by_one": {"seconds": loop.json(), "rows_a_second": len(asked) / loop.median},
        "times_faster": gain.json(),
        "same_answers": same,
    }
    lines = [
        [name, str(timing), f"{len(asked) / timing.median:.2f}"]
        for name, timing in ((f"in {len(plan)} batches", ours), ("one by one", loop))
    ]
    title = f"{len(asked)} rows of {of.benchmark.title} {of.split} on {shown} pages"
    publish(
        found,
        [Table(title, ("way", f"time, median of {repeats}", "rows/s"), lines)],
        json,
        [f"{gain} times as fast; {same} of {len(asked)} answers are the same"],
        plot=plot,
        panels=[
            Bars(
                "seconds",
                {"together": {"time": ours.median}, "one by one": {"time": loop.median}},
                {"together": ours.mark(), "one by one": loop.mark()},
            )
        ],
    )
