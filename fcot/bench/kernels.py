"""The verb `bench kernels`: what a device does during a step or an answer, kernel by kernel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch._C._autograd import DeviceType
from torch.profiler import profile
from transformers import GenerationConfig

from fcot.bench.measure import on_accelerator, seconds
from fcot.bench.output import Table, publish
from fcot.bench.step import assemble
from fcot.bench.workload import Pages, find_device, model_folder, random_pair
from fcot.models.spec import StudentSpec

WARM = 3  # runs before the one that is watched


def kernels(
    of: Literal["step", "answer"] = "step",
    model: str = "2b",
    ratio: int = 2,
    tiles: int = 13,
    prompt: int = 50,
    answer: int = 500,
    new_tokens: int = 2,
    batch: int = 1,
    device: str | None = None,
    bf16: bool | None = None,
    compressor: str = "conv",
    top: int = 20,
    json: str | None = None,
) -> None:
    """List the kernels of a re-alignment step or an answer by time, and the share of it in which the device works.

    Args:
        of: A step of re-alignment, or the answer to a question on each page.
        model: Size (100m, 1b, 2b, 8b) or a model folder, whose configuration alone is used.
        ratio: How many visual tokens become one.
        tiles: Tiles of a page, the thumbnail counted.
        prompt: Text tokens before the answer.
        answer: Answer tokens of a step.
        new_tokens: Tokens of a generated answer; 2 watches little more than the prefill.
        batch: Pages in the batch.
        device: Such as cpu (default: this machine's accelerator, or its CPU).
        bf16: Compute in bf16 (default: on accelerators).
        compressor: Short name of the student's compressor.
        top: How many kernels are listed.
        json: File for the results, - for the standard output.
    """
    place = find_device(device)
    half = on_accelerator(place) if bf16 is None else bf16
    dtype = torch.bfloat16 if half else torch.float32
    with model_folder(model) as folder:
        if of == "step":
            work = _step(folder, ratio, Pages(tiles, prompt, answer, batch), place, dtype, compressor)
        else:
            work = _answer(folder, ratio, Pages(tiles, prompt, 1, batch), place, dtype, compressor, new_tokens)
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=half and of == "step"):
            wall, listed = watch(work, place)
    busy = sum(each["seconds"] for each in listed)
    found: dict[str, Any] = {
        "bench": "kernels",
        "of": of,
        "model": model,
        "ratio": ratio,
        "tiles": tiles,
        "batch": batch,
        "device": str(place),
        "precision": "bf16" if half else "fp32",
        "seconds": wall,
        "busy_seconds": busy,
        "kernels": listed[:top],
    }
    rows = [
        [each["name"][:80], f"{1000 * each['seconds']:.2f}", f"{each['seconds'] / busy:.1%}", str(each["calls"])]
        for each in listed[:top]
    ]
    title = f"{of} of {model} at ratio {ratio}, {tiles} tiles, batch {batch}, {found['precision']}: "
    title += f"{1000 * wall:.0f} ms, of which {1000 * busy:.0f} ms in kernels"
    publish(found, [Table(title, ("kernel", "ms", "share", "calls"), rows)], json)


def watch(work: Callable[[], Any], device: torch.device) -> tuple[float, list[dict[str, Any]]]:
    """Return the seconds of some work unwatched, and its kernels by time, from another run; operations on a CPU."""
    for _ in range(WARM):
        work()
    start = seconds(device)
    work()
    wall = seconds(device) - start
    there = on_accelerator(device)
    with profile() as watched:
        work()
        seconds(device)
    listed = []
    for event in watched.key_averages():
        on_device = event.device_type != DeviceType.CPU
        spent = event.self_device_time_total if there else event.self_cpu_time_total
        if on_device == there and spent > 0:
            listed.append({"name": event.key, "seconds": spent / 1e6, "calls": event.count})
    return wall, sorted(listed, key=lambda each: -each["seconds"])


def _step(
    folder: Path, ratio: int, pages: Pages, device: torch.device, dtype: torch.dtype, compressor: str
) -> Callable[[], None]:
    module, batch = assemble(folder, [ratio], pages, device, dtype, compressor=compressor)

    def take() -> None:
        module.losses(batch)["loss"].backward()
        module.pair.zero_grad()

    return take


def _answer(
    folder: Path,
    ratio: int,
    pages: Pages,
    device: torch.device,
    dtype: torch.dtype,
    compressor: str,
    new_tokens: int,
) -> Callable[[], Any]:
    spec = StudentSpec.of(compressor, ratio) if ratio > 1 else None
    pair = random_pair(folder, device, dtype, spec=spec).to(device, dtype).eval()
    pair.student.generation_config = GenerationConfig(pad_token_id=0)
    batch = pages.of({"student": pair.student.config}).to(device)
    return lambda: pair.answer(batch, "student", max_new_tokens=new_tokens)
