"""The verb `bench step`: what a step of re-alignment costs, and what its savings save."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fcot.batch import Batch
from fcot.bench.flops import counting
from fcot.bench.measure import (
    Gain,
    Product,
    Timing,
    clocked,
    in_turn,
    on_accelerator,
    seconds,
)
from fcot.bench.meter import STEP_PARTS, Meter, step_parts
from fcot.bench.naive import NaiveStep
from fcot.bench.output import publish
from fcot.bench.step_results import notes, panels, tables
from fcot.bench.way import Way, naively
from fcot.bench.workload import Pages, find_device, model_folder, numbers, random_pair
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.spec import StudentSpec
from fcot.training.realign import Realign

TERA = 1e12


def step(
    model: str = "2b",
    ratio: int = 2,
    ratios: str | None = None,
    tiles: int = 13,
    prompt: int = 50,
    answer: int = 500,
    batch: int = 1,
    device: str | None = None,
    bf16: bool | None = None,
    naive: bool = True,
    compile: bool = False,
    chunk_rows: int = 256,
    compressor: str = "conv",
    repeats: int = 5,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Count the FLOPs of a re-alignment step by part; on a real device measure its time and memory too.

    The step is the one that `fit` runs, forward and backward, on random weights at real shapes. Beside it stands a
    naive step with the same result: two models, two vision runs, full logits.

    Args:
        model: Size (100m, 1b, 2b, 8b) or a model folder, whose configuration alone is used.
        ratio: How many visual tokens become one.
        ratios: Several of them, such as 2,4: students that share a step; naively each has a step of its own.
        tiles: Tiles of a page, the thumbnail counted.
        prompt: Text tokens before the answer.
        answer: Answer tokens.
        batch: Pages in the batch.
        device: Such as cpu; meta counts FLOPs only (default: this machine's accelerator, or its CPU).
        bf16: Compute in bf16, frozen weights too (default: on accelerators).
        naive: Count and measure the naive step too.
        compile: Measure the step with its layers compiled by torch.compile too.
        chunk_rows: Answer tokens whose logits exist at a time, in our step; bounds memory.
        compressor: Short name of the students' compressor.
        repeats: How often the step is timed.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.
    """
    each = numbers(ratios) if ratios else [ratio]
    pages, place = Pages(tiles, prompt, answer, batch), find_device(device)
    half = on_accelerator(place) if bf16 is None else bf16
    found: dict[str, Any] = {
        "bench": "step",
        "model": model,
        "ratios": each,
        **vars(pages),
        "device": str(place),
        "precision": "bf16" if half else "fp32",
        "chunk_rows": chunk_rows,
        "compressor": compressor,
    }
    with model_folder(model) as folder:
        found |= count(folder, each, pages, naive=naive, compressor=compressor)
        if place.type != "meta":
            kinds = [name for name, wanted in (("compiled", compile), ("naive", naive)) if wanted]
            found["measured"] = measure(
                folder,
                each,
                pages,
                place,
                half=half,
                kinds=kinds,
                chunk_rows=chunk_rows,
                compressor=compressor,
                repeats=repeats,
            )
            compare(found)
    publish(found, tables(found), json, notes(found), plot=plot, panels=panels(found))


def assemble(
    folder: Path,
    ratios: Sequence[int],
    pages: Pages,
    device: torch.device,
    dtype: torch.dtype,
    chunk_rows: int = 256,
    compressor: str = "conv",
) -> tuple[Realign, Batch]:
    """Return what trains, as `fit` has it, and a batch of it on the device."""
    place = StudentSpec.of(compressor, ratios[0]).placement
    module = Realign(folder, ratios=list(ratios), chunk_rows=chunk_rows, compressor=compressor, placement=place)
    module.pair = random_pair(folder, device, dtype, spec=module.spec, more_ratios=ratios[1:])
    batch = pages.of({"teacher": module.folder.config, **module.configs})
    return module, batch.to(device)


def count(
    folder: Path, ratios: Sequence[int], pages: Pages, *, naive: bool = False, compressor: str = "conv"
) -> dict[str, Any]:
    """Return the TFLOP of a step by part and in total, and of a naive step, from a run on the meta device."""
    module, batch = assemble(folder, ratios, pages, torch.device("meta"), torch.float32, compressor=compressor)
    with counting() as flops:
        parts = run_by_part(module, batch, Meter(flops))
    counted = {
        "unit": "TFLOP",
        "parts": {part: amount / TERA for part, amount in parts.items()},
        "total": sum(parts.values()) / TERA,
    }
    if naive:
        with counting() as flops:
            for branch, two in NaiveStep.of(module.pair, ModelFolder(folder).config).items():
                two.loss(batch, branch).backward()
            counted["naive_total"] = flops() / TERA
    return counted


def run_by_part(module: Realign, batch: Batch, meter: Meter) -> dict[str, float]:
    """Run a step, forward and backward, and return what it cost by part."""
    with step_parts(module.pair, meter):
        loss = module.losses(batch)["loss"]
        meter.mark("head")
        loss.backward()
        meter.mark("projector")
    module.pair.zero_grad()
    return {part: meter.parts.get(part, 0.0) for part in STEP_PARTS}


def measure(
    folder: Path,
    ratios: Sequence[int],
    pages: Pages,
    device: torch.device,
    *,
    half: bool,
    kinds: Sequence[str],
    chunk_rows: int,
    compressor: str,
    repeats: int,
) -> dict[str, Any]:
    """Return time, memory and loss of the step on a real device, and of other kinds with the same weights, in turn.

    Args:
        folder: Where the configuration is.
        ratios: Of the students.
        pages: What a batch is.
        device: Where to measure.
        half: Compute in bf16.
        kinds: What else to measure: the step "compiled", and "naive".
        chunk_rows: Answer tokens whose logits exist at a time.
        compressor: Short name of the students' compressor.
        repeats: How often each is timed.
    """
    dtype = torch.bfloat16 if half else torch.float32
    module, batch = assemble(folder, ratios, pages, device, dtype, chunk_rows, compressor)
    ways = {"step": Way([module.pair], [lambda: module.losses(batch)["loss"]])}
    if "naive" in kinds:
        ways["naive"] = naively(module, batch)
    if "compiled" in kinds:
        module.pair.compile_layers()
        ways["compiled"] = Way(ways["step"].models, ways["step"].losses, compiled=True)
    product = Product(device, dtype)

    def by_part() -> dict[str, float]:
        with torch.compiler.set_stance("force_eager"):
            return run_by_part(module, batch, Meter(lambda: seconds(device)))

    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        works: list[Callable[[], Any]] = [product, *ways.values()]
        parts, products, *spent = in_turn([by_part, *(clocked(work, device) for work in works)], repeats)
        times = dict(zip(ways, spent, strict=True))
        measured: dict[str, Any] = {"matmul_tflops": product.rate(products) / TERA}
        for name, way in ways.items():
            measured[name] = {"seconds": Timing.of(times[name]).json(), **way.measure(device, pages.batch, times[name])}
    measured["step"]["seconds_by_part"] = {part: Timing.of([run[part] for run in parts]).json() for part in STEP_PARTS}
    if "naive" in ways:
        measured["times_faster"] = Gain.over(times["naive"], times["step"]).json()
    return measured


def compare(found: dict[str, Any]) -> None:
    """Add how near each step is to the device's matrix products, and the share of the naive step's memory."""
    measured = found["measured"]
    for name, total in (("step", "total"), ("compiled", "total"), ("naive", "naive_total")):
        if name in measured:
            limit = found[total] / measured["matmul_tflops"]
            measured[name]["share_of_matmul_rate"] = limit / measured[name]["seconds"]["median"]
    if "naive" in measured:
        measured["share_of_memory"] = measured["step"]["peak_bytes"] / measured["naive"]["peak_bytes"]
