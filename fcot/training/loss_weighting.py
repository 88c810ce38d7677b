"""Combine token losses into the loss of a step, independently of how pages are split into batches and processes.

As in InternVL, all tokens weigh the same, or all samples do, or, in between, a sample weighs the square root of its
number of tokens.
"""

import torch
from torch import Tensor, distributed

from fcot.errors import UserError

POWERS = {"token": 0.0, "square_root": 0.5, "sample": 1.0}


def check_reduction(name: str) -> str:
    """Check the name of a reduction and return it.

    Raises:
        UserError: If the name is unknown.
    """
    if name not in POWERS:
        raise UserError(f"reduction is {name!r}.\nUse one of {', '.join(POWERS)}.")
    return name


def row_weights(samples: Tensor, num_samples: int, reduction: str) -> Tensor:
    """Return the weight of each answer row `[rows]`.

    Args:
        samples: Number of the sample that each row belongs to `[rows]`.
        num_samples: Samples in the batch.
        reduction: "token", "sample" or "square_root".
    """
    ones = torch.ones(len(samples), device=samples.device)
    lengths = ones.new_zeros(num_samples).index_add_(0, samples, ones)
    return lengths[samples] ** -POWERS[reduction]


def over_processes(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Average losses over the rows of all processes, rather than over the processes.

    The gradient of "loss" is this process's share, so that DDP's mean over processes gives the whole gradient. A
    process without rows contributes nothing. All processes must call this.

    Args:
        losses: Means over this process's rows, and "weight", the sum of these rows' weights. Tensors with dimensions
            are left as they are.

    Returns:
        The losses, with the sum of all processes' weights as "weight".
    """
    weight = losses["weight"].detach().float()
    own = {name: value for name, value in losses.items() if name != "weight"}
    if not (distributed.is_available() and distributed.is_initialized()):
        return {**own, "weight": weight}
    means = {name: value for name, value in own.items() if value.ndim == 0}
    sums = torch.stack([weight, *(value.detach().float() * weight for value in means.values())])
    distributed.all_reduce(sums)
    everyone = sums[0].clamp(min=torch.finfo(sums.dtype).tiny)
    whole = dict(zip(means, (sums[1:] / everyone).to(losses["loss"].dtype), strict=True))
    share = own["loss"] * (weight * distributed.get_world_size() / everyone).to(losses["loss"].dtype)
    whole["loss"] = with_value(share, whole["loss"])
    return {**own, **whole, "weight": sums[0]}


def with_value(tensor: Tensor, value: Tensor) -> Tensor:
    """Return a tensor with the gradient of `tensor` and the value of `value`."""
    return tensor + (value - tensor).detach()


class StepMean:
    """Makes the loss of a step over several batches the mean over all their rows, not the mean of the batches' means.

    Each batch's loss is scaled as if all batches of its step had the weight of the first; before the optimizer's step,
    when all weights are known, the gradients are corrected. No value is read back from the device.

    Attributes:
        first: Weight of the step's first batch that has rows, a scalar; 0 before that.
        total: Weight of the step's batches so far, a scalar.
    """

    def __init__(self) -> None:
        self.first, self.total = torch.zeros(()), torch.zeros(())

    def weigh(self, loss: Tensor, weight: Tensor) -> Tensor:
        """Return a batch's loss, with its gradient scaled to its share of the step.

        Args:
            loss: Mean over the batch's rows.
            weight: Sum of the weights of the rows of all processes.
        """
        first, total = self.first.to(weight.device), self.total.to(weight.device)
        self.first, self.total = torch.where(first > 0, first, weight), total + weight
        return with_value(loss * (weight / self.first.clamp(min=torch.finfo(weight.dtype).tiny)), loss.detach())

    def finish(self, gradients: list[Tensor], batches: int) -> None:
        """Correct the gradients of a step, and begin the next.

        Args:
            gradients: Sums over the step's batches, each divided by `batches`.
            batches: Number of batches in a whole step.
        """
        factor = torch.where(self.total > 0, self.first * batches / self.total, 1.0)
        for gradient in gradients:
            gradient.mul_(factor)
        self.first, self.total = torch.zeros_like(self.first), torch.zeros_like(self.total)
