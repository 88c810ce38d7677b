"""What a step of re-alignment costs with each compressor of a tiny student: parameters, FLOPs, seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from fcot.batch import Batch
from fcot.bench.flops import counting
from fcot.bench.measure import timed_in_turn
from fcot.bench.workload import Pages, random_pair
from fcot.training.realign import Realign

PAGES = Pages(tiles=3, prompt=20, answer=60, batch=32)  # about a step of the tiny world
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cost:
    """What a step costs.

    Attributes:
        parameters: Trainable ones.
        flops: Of a step, forward and backward.
        seconds: Of a step in fp32 on this machine's CPU, median of several in turn with those of all others.
    """

    parameters: int
    flops: float
    seconds: float


def costs(teacher: Path, cells: Sequence[tuple[str, str, int]], repeats: int = 3) -> list[Cost]:
    """Return what a step costs with each compressor.

    Args:
        teacher: Model folder, whose configuration alone is used.
        cells: Name, placement and ratio of each.
        repeats: How often each step is timed.
    """
    counted: list[tuple[int, float]] = []
    steps: list[Callable[[], None]] = []
    for cell in cells:
        module, batch = _assemble(teacher, cell, torch.device("meta"))
        with counting() as flops:
            module.losses(batch)["loss"].backward()
        counted.append((sum(parameter.numel() for _, parameter in module.pair.trainable()), flops()))
        steps.append(_step(*_assemble(teacher, cell, CPU)))
    times = timed_in_turn(steps, CPU, repeats)
    return [Cost(*each, median(spent)) for each, spent in zip(counted, times, strict=True)]


def _assemble(teacher: Path, cell: tuple[str, str, int], device: torch.device) -> tuple[Realign, Batch]:
    name, place, ratio = cell
    module = Realign(teacher, compressor=name, ratio=ratio, placement=place)
    module.pair = random_pair(teacher, device, torch.float32, spec=module.spec)
    return module, PAGES.of({"teacher": module.folder.config, **module.configs}).to(device)


def _step(module: Realign, batch: Batch) -> Callable[[], None]:
    def take() -> None:
        module.losses(batch)["loss"].backward()
        module.pair.zero_grad()

    return take
