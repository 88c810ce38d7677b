"""What training-free reducers cost and save as a page is read, beside the plain model, all in turn in one process."""

import statistics
from functools import partial
from typing import Any

import torch

from fcot.batch import Batch
from fcot.bench.flops import counting
from fcot.bench.measure import Gain, Timing, in_turn, peak_memory, seconds
from fcot.bench.meter import Meter, answer_parts
from fcot.bench.output import Table
from fcot.models.reduced_pages import Left
from fcot.models.student_teacher import StudentTeacher
from fcot.reduce import Reducer

PLAIN = "none"


def measure_reducers(
    pair: StudentTeacher,
    reducers: dict[str, Reducer],
    pages: Batch,
    new_tokens: int,
    device: torch.device,
    repeats: int,
) -> list[dict[str, Any]]:
    """Return a row for the plain model and for each reducer: FLOPs, times and memory over the plain model's.

    Args:
        pair: Whose student answers.
        reducers: By name.
        pages: Prompts, on the device.
        new_tokens: Tokens of an answer.
        device: Where to measure.
        repeats: How often each is timed.
    """
    all_kinds: dict[str, Reducer | None] = {PLAIN: None, **reducers}

    def timed(reducer: Reducer | None) -> dict[str, float]:
        meter = Meter(lambda: seconds(device))
        with answer_parts(pair, meter):
            pair.answer(pages, "student", reducer=reducer, max_new_tokens=new_tokens)
        return meter.parts

    runs = dict(zip(all_kinds, in_turn([partial(timed, each) for each in all_kinds.values()], repeats), strict=True))
    plain = runs[PLAIN]
    flops = {name: prefill_flops(pair, pages, each) for name, each in all_kinds.items()}
    read_once = partial(pair.answer, pages, "student", max_new_tokens=1)
    peaks = {name: peak_memory(partial(read_once, reducer=each), device) for name, each in all_kinds.items()}
    whole = Left(*(pages.visual_tokens("student")[:1] * 2))

    def left_by(reducer: Reducer | None) -> Left:
        """Return what is left of the first page's visual tokens."""
        left: list[Left] = []
        read_once(reducer=reducer, left=left)
        return left[0] if left else whole

    left = {name: left_by(each) for name, each in all_kinds.items()}

    def over_plain(name: str, part: str) -> dict[str, float]:
        """Return the time of a part over the plain model's of the same turn."""
        return Gain.over([run[part] for run in runs[name]], [run[part] for run in plain]).json()

    return [
        {
            "reduce": name,
            "kept": left[name].kept,
            "equivalent": left[name].equivalent,
            "prefill": Timing.of([run["prefill"] for run in runs[name]]).json(),
            "prefill_share": over_plain(name, "prefill"),
            "prefill_flops_share": flops[name] / flops[PLAIN],
            "seconds_per_token": statistics.median(run["decode"] for run in runs[name]) / (new_tokens - 1),
            "decode_share": over_plain(name, "decode"),
            "peak_share": peaks[name] / peaks[PLAIN],
        }
        for name in all_kinds
    ]


def prefill_flops(pair: StudentTeacher, pages: Batch, reducer: Reducer | None) -> float:
    """Return the FLOPs of the language model until the first token, counted as it runs."""
    with torch.no_grad(), counting() as flops:
        meter = Meter(flops)
        with answer_parts(pair, meter):
            pair.answer(pages, "student", reducer=reducer, max_new_tokens=1)
    return meter.parts["prefill"]


def table_of(rows: list[dict[str, Any]], batch: int) -> Table:
    """Return the rows for the terminal."""
    cells = [
        [
            row["reduce"],
            f"{row['kept']:,}",
            f"{row['equivalent']:,.0f}",
            Timing(**row["prefill"]).figures(1000, 0, "\n"),
            Gain(**row["prefill_share"]).figures(1, 3, "\n"),
            f"{row['prefill_flops_share']:.3f}",
            f"{1000 * row['seconds_per_token']:.1f}",
            Gain(**row["decode_share"]).figures(1, 3, "\n"),
            f"{row['peak_share']:.3f}",
        ]
        for row in rows
    ]
    columns = (
        "reducer",
        "kept",
        "equivalent",
        "prefill, ms",
        "over none",
        "its FLOPs",
        "a token, ms",
        "over none",
        "peak",
    )
    title = f"training-free reducers, batch {batch}: visual tokens of a page, and time over the plain model's"
    return Table(title, columns, cells)
