"""The verb `bench sft`: what a step of post-training costs, with activations stored and recomputed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from fcot.batch import Batch
from fcot.bench.flops import counting
from fcot.bench.measure import Gain, Product, Timing, clocked, in_turn, on_accelerator, peak_memory, weight_bytes
from fcot.bench.output import Table, flop_unit, gigabytes, publish
from fcot.bench.picture import Bars
from fcot.bench.workload import Pages, find_device, let_run_on_meta, model_folder
from fcot.models.spec import StudentSpec
from fcot.models.student_teacher import PARTS, StudentTeacher
from fcot.training.sft import SFT

TERA = 1e12


def sft(
    model: str = "2b",
    ratio: int = 2,
    tiles: int = 13,
    prompt: int = 50,
    answer: int = 500,
    batch: int = 1,
    device: str | None = None,
    bf16: bool | None = None,
    compressor: str = "conv",
    chunk_rows: int = 1024,
    repeats: int = 5,
    json: str | None = None,
    plot: Path | None = None,
) -> None:
    """Measure a step of post-training, all parameters and AdamW, with activations stored and recomputed.

    The step is the one that `fit` runs, its optimizer included, on random weights at real shapes. Weights, gradients
    and AdamW's moments are fp32: 16 bytes a parameter.

    Args:
        model: Size (100m, 1b, 2b, 8b) or a model folder, whose configuration alone is used.
        ratio: How many visual tokens become one.
        tiles: Tiles of a page, the thumbnail counted.
        prompt: Text tokens before the answer.
        answer: Answer tokens.
        batch: Pages in the batch.
        device: Such as cpu; meta counts FLOPs only (default: this machine's accelerator, or its CPU).
        bf16: Compute in bf16 by autocast (default: on accelerators).
        compressor: Short name of the student's compressor.
        chunk_rows: Answer tokens whose logits exist at a time.
        repeats: How often each is timed.
        json: File for the results, - for the standard output.
        plot: File for a picture of them.
    """
    pages, place = Pages(tiles, prompt, answer, batch), find_device(device)
    half = on_accelerator(place) if bf16 is None else bf16
    spec = StudentSpec.of(compressor, ratio)
    found: dict[str, Any] = {
        "bench": "sft",
        "model": model,
        "ratio": ratio,
        **vars(pages),
        "device": str(place),
        "precision": "bf16-mixed" if half else "fp32",
        "compressor": compressor,
        "chunk_rows": chunk_rows,
    }
    with model_folder(model) as folder:
        found["total"] = count(folder, spec, pages, chunk_rows)
        if place.type != "meta":
            found |= measure(folder, spec, pages, place, half=half, chunk_rows=chunk_rows, repeats=repeats)
            for kind in found["measured"].values():
                kind["share_of_matmul_rate"] = found["total"] / found["matmul_tflops"] / kind["seconds"]["median"]
    publish(found, tables(found), json, notes(found), plot=plot, panels=panels(found))


def assemble(folder: Path, spec: StudentSpec, pages: Pages, device: torch.device, chunk_rows: int) -> tuple[SFT, Batch]:
    """Return what trains, as `fit` has it, and a batch of it on the device."""
    module = SFT(folder, chunk_rows=chunk_rows)
    with torch.device(device):
        module.pair = StudentTeacher(folder, spec, from_scratch=True)
    module.pair.teacher_projector = None
    module.pair.train_parts(*PARTS)
    module.pair.train()
    if device.type == "meta":
        let_run_on_meta(module.pair)
    return module, pages.of({"student": module.pair.student.config}).to(device)


def count(folder: Path, spec: StudentSpec, pages: Pages, chunk_rows: int) -> float:
    """Return the TFLOP of a step, forward and backward without recomputing, from a run on the meta device."""
    module, batch = assemble(folder, spec, pages, torch.device("meta"), chunk_rows)
    with counting() as flops:
        module.losses(batch)["loss"].backward()
    return flops() / TERA


def measure(
    folder: Path,
    spec: StudentSpec,
    pages: Pages,
    device: torch.device,
    *,
    half: bool,
    chunk_rows: int,
    repeats: int,
) -> dict[str, Any]:
    """Return time, memory and loss of both kinds of step on the same weights, in turn; arguments as of `sft`."""
    module, batch = assemble(folder, spec, pages, device, chunk_rows)
    optimizer = AdamW(module.parameter_groups(), lr=1e-8)  # so little that both kinds see nearly the same weights
    tower, losses = module.pair.student.model.vision_tower, []

    def taking(recompute: bool) -> Callable[[], None]:
        def take() -> None:
            module.pair.checkpointing = recompute
            (tower.gradient_checkpointing_enable if recompute else tower.gradient_checkpointing_disable)()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                loss = module.losses(batch)["loss"]
            loss.backward()
            losses.append(loss.detach())
            optimizer.step()
            optimizer.zero_grad()

        return take

    product = Product(device, torch.bfloat16 if half else torch.float32)
    kinds: dict[str, Callable[[], None]] = {"stored": taking(recompute=False), "recomputed": taking(recompute=True)}
    works: list[Callable[[], Any]] = [product, *kinds.values()]
    products, *spent = in_turn([clocked(work, device) for work in works], repeats)
    state = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    size = weight_bytes(module.pair) + state
    found: dict[str, Any] = {}
    for (name, take), times in zip(kinds.items(), spent, strict=True):
        found[name] = {
            "seconds": Timing.of(times).json(),
            "samples_per_second": pages.batch / Timing.of(times).median,
            "weight_bytes": size,
            "peak_bytes": size + peak_memory(take, device),
            "loss": float(losses[-1]),
        }
    return {
        "matmul_tflops": product.rate(products) / TERA,
        "measured": found,
        "times_faster_stored": Gain.over(spent[1], spent[0]).json(),
    }


def tables(found: dict[str, Any]) -> list[Table]:
    """Return FLOPs, and what was measured."""
    unit, scale = flop_unit(found["total"])
    title = f"a step of post-training of {found['model']} at ratio {found['ratio']}: {found['tiles']} tiles, "
    title += f"{found['prompt']} prompt and {found['answer']} answer tokens, batch {found['batch']}"
    drawn = [Table(title, ("", unit), [["forward and backward", f"{scale * found['total']:.1f}"]])]
    rows = [
        [
            name,
            str(Timing(**kind["seconds"])),
            f"{kind['samples_per_second']:.3g}",
            f"{kind['share_of_matmul_rate']:.0%}",
            gigabytes(kind["peak_bytes"]),
            gigabytes(kind["weight_bytes"]),
            f"{kind['loss']:.4f}",
        ]
        for name, kind in found.get("measured", {}).items()
    ]
    columns = ("activations", "time", "samples/s", "of matmul rate", "peak memory", "weights and moments", "loss")
    if rows:
        again = f"{found['precision']}, the optimizer's part included, medians in turn"
        drawn.append(Table(again, columns, rows))
    return drawn


def notes(found: dict[str, Any]) -> list[str]:
    """Return the comparison in a sentence."""
    if "measured" not in found:
        return []
    gain = Gain(**found["times_faster_stored"])
    rate = f"matrix products run at {found['matmul_tflops']:.3g} TFLOP/s here"
    return [f"{found['precision']}; stored activations {gain} times as fast as recomputed ones; {rate}"]


def panels(found: dict[str, Any]) -> list[Bars]:
    """Return time and memory of both kinds, or the FLOPs where nothing was measured."""
    measured = found.get("measured")
    if measured is None:
        unit, scale = flop_unit(found["total"])
        return [Bars(unit, {"step": {"step": scale * found["total"]}})]
    spent = {name: {"time": kind["seconds"]["median"]} for name, kind in measured.items()}
    marks = {name: Timing(**kind["seconds"]).mark() for name, kind in measured.items()}
    memory = {
        name: {
            "weights and moments": kind["weight_bytes"] / 1e9,
            "all that the step makes": (kind["peak_bytes"] - kind["weight_bytes"]) / 1e9,
        }
        for name, kind in measured.items()
    }
    return [Bars("seconds", spent, marks), Bars("GB at the peak", memory)]
