"""The doctor's findings as lines for a terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fcot.doctor.devices import Devices
from fcot.doctor.memory import STRATEGIES, parameters_by_part, training_steps
from fcot.doctor.page import PageCost
from fcot.doctor.versions import Installed
from fcot.internvl.checkpoint import ModelFolder
from fcot.serve.vllm_versions import Found

GIB = 2**30
COUNTED = """\
  Counted: weights, fp32 what learns and bf16 what is frozen; fp32 gradients and Adam's two states; DDP's buckets; what
  FSDP2 gathers; what the forward pass keeps (run on tensors without contents, CPU kernels); logits of a chunk of rows.
  Not counted: the runtime's own memory, fragmentation, short-lived buffers, and in host memory the weights that each
  process holds while it loads them. Re-alignment, which trains few parameters, has no need of FSDP2."""


def version_lines(packages: Sequence[Installed], here: Devices, vllm: Found | None = None) -> Iterator[str]:
    """Yield what is installed and what there is to run on."""
    yield "Versions"
    width = max(len(package.name) for package in packages)
    for package in packages:
        mark = "  <- not allowed" if package.problem else ""
        yield f"  {package.name:<{width}}  {package.found or 'missing':<14} {package.allowed}{mark}"
    yield "  torchvision is not needed"
    here_or_not = f"{vllm.version:<14} {vllm.remark}" if vllm else "not installed; only `serve --engine vllm` needs it"
    yield f"  {vllm.name if vllm else 'vllm':<{width}}  {here_or_not}"
    yield "\nDevices"
    yield f"  {here.processor}, {here.cores} cores, {here.ram / GIB:.1f} GiB of memory"
    memory = f", {here.memory / GIB:.1f} GiB each" if here.memory else ""
    yield f"  accelerators: {f'{here.count} x {here.accelerator}{memory}' if here.count else 'none'}"
    if here.kind == "npu":
        yield "  Ascend NPUs are experimental: fcot/runtime/README.md says what was tested without one"
    yield f"  {here.disk / GIB:.1f} GiB free in this folder"


def model_lines(folder: ModelFolder, given: Path, notes: Sequence[str] = ()) -> Iterator[str]:
    """Yield what the model is, and what the user gave: a folder or the name of a size."""
    counts = parameters_by_part(folder)
    parts = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in counts.items())
    yield f"\nModel {given}"
    yield f"  {folder.config.model_type}, {sum(counts.values()) / 1e6:.2f} M parameters ({parts})"
    yield from (f"  {note}" for note in notes)


def page_lines(folder: ModelFolder, cost: PageCost, ratio: int) -> Iterator[str]:
    """Yield what a page costs."""
    thumbnail = " and a thumbnail" if cost.tiles > 1 else ""
    yield f"\nA page of {cost.width}x{cost.height} pixels"
    yield f"  {cost.columns}x{cost.rows} tiles of {folder.tile_size} pixels{thumbnail}: {cost.tiles} tiles"
    yield f"  {cost.before} tokens before compression, {cost.after} at ratio {ratio} (with <img> and </img>)"


def memory_lines(
    folder: ModelFolder, cost: PageCost, ratio: int, text_tokens: int, num_devices: int, here: Devices
) -> Iterator[str]:
    """Yield what a training step of one page takes on each device, by stage and strategy."""
    yield f"\nMemory of a training step in GiB on each device: one such page, {text_tokens} tokens of text, bf16-mixed"
    heads = ["single", *(f"{strategy} x{num_devices}" for strategy in STRATEGIES[1:])]
    yield f"  {'':<10}" + "".join(f"{head:>12}" for head in heads)
    for step in training_steps(folder, tiles=cost.tiles, text_tokens=text_tokens, ratio=ratio):
        totals = [step.total(strategy, num_devices) for strategy in STRATEGIES]
        cells = "".join(
            f"{'-':>11} " if total is None else f"{total / GIB:>11.2f}{'!' if total > here.room > 0 else ' '}"
            for total in totals
        )
        yield f"  {step.stage:<10}{cells}"
        yield (
            f"  {'':<10}  of it weights {step.weights / GIB:.2f}, kept for the backward pass {step.kept / GIB:.2f}, "
            f"logits {step.loss / GIB:.2f}"
        )
    if here.room:
        yield f"  ! is more than a device here has ({here.room / GIB:.1f} GiB)"
    yield COUNTED
