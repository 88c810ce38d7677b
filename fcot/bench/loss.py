"""The verb `bench loss`: the re-alignment loss in chunks beside full logits."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fcot.bench.measure import Timing, on_accelerator, peak_memory, timed_in_turn
from fcot.bench.output import Table, gigabytes, publish
from fcot.bench.picture import Bars
from fcot.bench.workload import find_device
from fcot.errors import UserError
from fcot.training.distillation import distillation_loss


def loss(
    rows: int = 4096,
    vocabulary: int = 92553,
    width: int = 2048,
    chunk_rows: int = 256,
    temperature: float = 1.0,
    device: str | None = None,
    bf16: bool | None = None,
    full: bool = True,
    repeats: int = 5,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Measure peak memory and time of the re-alignment loss and its gradient, beside full logits.

    Args:
        rows: Answer tokens.
        vocabulary: Tokens in the vocabulary.
        width: Width of a hidden row.
        chunk_rows: Answer tokens whose logits exist at a time.
        temperature: Softens both distributions in the KL.
        device: Such as cpu; meta counts memory only (default: this machine's accelerator, or its CPU).
        bf16: Hidden rows and head in bf16 (default: on accelerators).
        full: Measure full logits too.
        repeats: How often each is timed.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.

    Raises:
        UserError: If there is nothing to measure.
    """
    if min(rows, vocabulary, width) < 1:
        raise UserError(f"rows is {rows}, vocabulary {vocabulary}, width {width}.\nGive one or more of each.")
    place = find_device(device)
    half = on_accelerator(place) if bf16 is None else bf16
    inputs = make_inputs(rows, vocabulary, width, place, torch.bfloat16 if half else torch.float32)
    found: dict[str, Any] = {
        "bench": "loss",
        "rows": rows,
        "vocabulary": vocabulary,
        "width": width,
        "chunk_rows": chunk_rows,
        "temperature": temperature,
        "device": str(place),
        "precision": "bf16" if half else "fp32",
    }
    ways = {"chunked": lambda given: chunked(given, chunk_rows, temperature)}
    if full:
        ways["full"] = lambda given: full_logits(given, temperature)
    found |= run(ways, inputs, place, repeats)
    title = f"loss of {rows:,} rows of width {width:,}, vocabulary {vocabulary:,}, {found['precision']}"
    kinds = {"chunked": f"chunks of {chunk_rows}", "full": "full logits"}
    cells = [
        [
            name,
            str(Timing(**found[kind]["seconds"])) if "seconds" in found[kind] else "",
            gigabytes(found[kind]["peak_bytes"]),
            f"{found[kind]['loss']:.6f}" if "loss" in found[kind] else "",
        ]
        for kind, name in kinds.items()
        if kind in found
    ]
    columns = ("loss and gradient", f"time, median of {repeats}", "peak memory above inputs", "loss")
    named = {name: found[kind] for kind, name in kinds.items() if kind in found}
    panels = [Bars("GB above inputs", {name: {"memory": kind["peak_bytes"] / 1e9} for name, kind in named.items()})]
    if place.type != "meta":
        spent = {name: {"time": kind["seconds"]["median"]} for name, kind in named.items()}
        marks = {name: Timing(**kind["seconds"]).mark() for name, kind in named.items()}
        panels.append(Bars("seconds", spent, marks))
    publish(found, [Table(title, columns, cells)], json, plot=plot, panels=panels)


Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def make_inputs(rows: int, vocabulary: int, width: int, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Return student rows that want a gradient, teacher rows, head and labels, made up."""
    torch.manual_seed(0)
    with torch.device(device):
        student, teacher = (torch.randn(rows, width).to(dtype) for _ in range(2))
        head = (torch.randn(vocabulary, width) / width**0.5).to(dtype)
        return student.requires_grad_(), teacher, head, torch.randint(vocabulary, (rows,))


def run(
    ways: Mapping[str, Callable[[Inputs], Tensor]], inputs: Inputs, device: torch.device, repeats: int
) -> dict[str, dict[str, Any]]:
    """Return of ways to compute the loss with its gradient, timed in turn: times, peak memory above the inputs, value.

    On the meta device it is the memory alone.
    """

    def once(way: Callable[[Inputs], Tensor]) -> Tensor:
        value = way(inputs)
        value.backward()
        inputs[0].grad = None
        return value.detach()

    works = {name: partial(once, way) for name, way in ways.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in ways}
    if device.type != "meta":
        for each, times in zip(found.values(), timed_in_turn(list(works.values()), device, repeats), strict=True):
            each["seconds"] = Timing.of(times).json()
    for name, work in works.items():
        found[name]["peak_bytes"] = peak_memory(work, device)
        if device.type != "meta":
            found[name]["loss"] = float(work())
    return found


def chunked(inputs: Inputs, chunk_rows: int, temperature: float) -> Tensor:
    """Return the loss as re-alignment computes it."""
    return distillation_loss(*inputs, chunk_rows=chunk_rows, temperature=temperature).loss


def full_logits(inputs: Inputs, temperature: float) -> Tensor:
    """Return the same loss from the logits of all rows."""
    student, teacher, head, labels = inputs
    z_s, z_t = (functional.linear(rows, head).float() for rows in (student, teacher))
    log_s, log_t = ((logits / temperature).log_softmax(-1) for logits in (z_s, z_t))
    kl = functional.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
    return temperature**2 * kl + functional.cross_entropy(z_s, labels)
