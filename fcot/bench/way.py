"""A way to take a training step, to be measured beside others on the same weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from fcot.batch import Batch
from fcot.bench.measure import peak_memory, weight_bytes
from fcot.bench.naive import NaiveStep
from fcot.training.realign import Realign


@dataclass(frozen=True)
class Way:
    """A way to take a step: calling it runs forward and backward, and returns the loss.

    Attributes:
        models: What has the weights; several are trained one after another.
        losses: Returns each model's loss.
        compiled: Run the layers that were given to torch.compile in compiled form.
    """

    models: Sequence[nn.Module]
    losses: Sequence[Callable[[], Tensor]]
    compiled: bool = False

    def __call__(self) -> Tensor:
        """Take the step."""
        losses = []
        with torch.compiler.set_stance("default" if self.compiled else "force_eager"):
            for model, loss in zip(self.models, self.losses, strict=True):
                losses.append(loss())
                losses[-1].backward()
                model.zero_grad()
        return torch.stack(losses).sum().detach()

    def measure(self, device: torch.device, samples: int, times: Sequence[float]) -> dict[str, Any]:
        """Return loss, samples a second by the median of times, and the memory of weights and at the peak."""
        size = max(map(weight_bytes, self.models))
        return {
            "loss": float(self()),
            "samples_per_second": samples / median(times),
            "weight_bytes": size,
            "peak_bytes": size + peak_memory(self, device),
        }


def naively(module: Realign, batch: Batch) -> Way:
    """Return the naive way to take a module's step: one for each student, one after another."""
    steps = NaiveStep.of(module.pair, module.folder.config)
    return Way(list(steps.values()), [partial(two.loss, batch, branch) for branch, two in steps.items()])
