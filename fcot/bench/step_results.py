"""The results of `bench step` for a reader: tables, bars, and what is to be said of them."""

from typing import Any

from fcot.bench.measure import Gain, Timing
from fcot.bench.output import Table, flop_unit, gigabytes
from fcot.bench.picture import Bars


def tables(found: dict[str, Any]) -> list[Table]:
    """Return FLOPs by part, and what was measured."""
    measured = found.get("measured")
    ratios = " and ".join(map(str, found["ratios"]))
    title = f"a step of {found['model']} at ratio {ratios}: {found['tiles']} tiles, {found['prompt']} prompt and "
    title += f"{found['answer']} answer tokens, batch {found['batch']}"
    total, (unit, scale) = found["total"], flop_unit(found["total"])
    rows = [[part.replace("_", " "), f"{scale * n:.2f}", f"{n / total:.1%}"] for part, n in found["parts"].items()]
    rows.append(["total", f"{scale * total:.2f}", ""])
    if "naive_total" in found:
        rows.append(["naive step", f"{scale * found['naive_total']:.2f}", f"{found['naive_total'] / total:.2f} times"])
    if measured is None:
        return [Table(title, ("part", unit, "share"), rows)]
    times = measured["step"]["seconds_by_part"]
    for row, spent in zip(rows, times.values(), strict=False):
        row.append(Timing(**spent).figures(1000, 0))
    cells = [
        [
            name,
            str(Timing(**measured[name]["seconds"])),
            f"{measured[name]['samples_per_second']:.3g}",
            f"{measured[name]['share_of_matmul_rate']:.0%}",
            gigabytes(measured[name]["peak_bytes"]),
            gigabytes(measured[name]["weight_bytes"]),
            f"{measured[name]['loss']:.4f}",
        ]
        for name in ("step", "compiled", "naive")
        if name in measured
    ]
    columns = ("forward and backward", "time", "samples/s", "of matmul rate", "peak memory", "weights", "loss")
    again = f"{found['precision']}, medians of {measured['step']['seconds']['repeats']} runs in turn"
    return [Table(title, ("part", unit, "share", "ms"), rows), Table(again, columns, cells)]


def panels(found: dict[str, Any]) -> list[Bars]:
    """Return FLOPs, and if measured time and memory, beside the naive step's."""
    unit, scale = flop_unit(found["total"])
    flops = {"this step": {part: scale * n for part, n in found["parts"].items()}}
    if "naive_total" in found:
        flops["naive"] = {"naive step": scale * found["naive_total"]}
    drawn = [Bars(unit, flops)]
    measured = found.get("measured")
    if measured is None:
        return drawn
    spent = {"this step": {part: time["median"] for part, time in measured["step"]["seconds_by_part"].items()}}
    kinds = {"this step": measured["step"]}
    if "naive" in measured:
        kinds["naive"] = measured["naive"]
        spent["naive"] = {"naive step": measured["naive"]["seconds"]["median"]}
    marks = {name: Timing(**kind["seconds"]).mark() for name, kind in kinds.items()}
    memory = {
        name: {
            "weights": kind["weight_bytes"] / 1e9,
            "all that the step makes": (kind["peak_bytes"] - kind["weight_bytes"]) / 1e9,
        }
        for name, kind in kinds.items()
    }
    return [*drawn, Bars("seconds", spent, marks), Bars("GB at the peak", memory)]


def notes(found: dict[str, Any]) -> list[str]:
    """Return what the naive step is, and the comparison in a sentence."""
    if "naive_total" not in found:
        return []
    said = ["naive: two models, two vision runs, full logits, gradients of all language-model weights"]
    if len(found["ratios"]) > 1:
        said[0] += "; a step for each ratio, all of them together"
    if "measured" in found:
        measured = found["measured"]
        said.append(
            f"{Gain(**measured['times_faster'])} times as fast as the naive step, "
            f"{measured['share_of_memory']:.2f} of its peak memory; "
            f"matrix products run at {measured['matmul_tflops']:.3g} TFLOP/s here"
        )
    return said
