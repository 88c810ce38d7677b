"""How the losses of tokens become the loss of a step, whatever pages happen to share a batch or a process.

InternVL's three ways: every token counts the same, every sample does, or, between the two, a sample counts with the
square root of its tokens.
"""

import torch
from torch import Tensor, distributed

from fcot.errors import UserError

POWERS = {"token": 0.0, "square_root": 0.5, "sample": 1.0}


def check_reduction(name: str) -> str:
    """Return the name of a reduction.

    Raises:
        UserError: If there is none of this name.
    """
    if name not in POWERS:
        raise UserError(f"reduction is {name!r}.\nUse one of {', '.join(POWERS)}.")
    return name


def row_weights(samples: Tensor, num_samples: int, reduction: str) -> Tensor:
    """Return the weight of each answer row `[rows]`.

    Args:
        samples: Which sample each row belongs to `[rows]`.
        num_samples: Samples in the batch.
        reduction: "token", "sample" or "square_root".
    """
    ones = torch.ones(len(samples), device=samples.device)
    lengths = ones.new_zeros(num_samples).index_add_(0, samples, ones)
    return lengths[samples] ** -POWERS[reduction]


def over_processes(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return losses that are means over the rows of all processes, not means of their means.

    The gradient of "loss" is this process's share: DDP's plain mean over processes makes it whole. A process without
    rows takes part with nothing. All processes must call this.

    Args:
        losses: Means over this process's rows, and "weight", the sum of the weights of these. Tensors with dimensions
            are left as they are.

    Returns:
        The losses, and as "weight" that of all processes.
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
    """Return a tensor with the value of one and the gradient of another."""
    return tensor + (value - tensor).detach()


class StepMean:
    """Makes a step over several batches learn the mean over the rows of all of them, not the mean of their means.

    A batch's loss is weighted as if all batches of its step weighed what the first does; before the optimizer's step
    the gradients are put right, once the weights of all are known. No value is asked of the device.

    Attributes:
        first: Weight of the step's first batch with rows, a scalar; 0 before it.
        total: Weight of the step's batches so far, a scalar.
    """

    def __init__(self) -> None:
        self.first, self.total = torch.zeros(()), torch.zeros(())

    def weigh(self, loss: Tensor, weight: Tensor) -> Tensor:
        """Return a batch's loss with the gradient of its part in the step's.

        Args:
            loss: Mean over the batch's rows.
            weight: Sum of the weights of these, of all processes.
        """
        first, total = self.first.to(weight.device), self.total.to(weight.device)
        self.first, self.total = torch.where(first > 0, first, weight), total + weight
        return with_value(loss * (weight / self.first.clamp(min=torch.finfo(weight.dtype).tiny)), loss.detach())

    def finish(self, gradients: list[Tensor], batches: int) -> None:
        """Put the gradients of a step right, and begin the next.

        Args:
            gradients: Sums over the step's batches, each divided by `batches`.
            batches: How many batches a whole step has.
        """
        factor = torch.where(self.total > 0, self.first * batches / self.total, 1.0)
        for gradient in gradients:
            gradient.mul_(factor)
        self.first, self.total = torch.zeros_like(self.first), torch.zeros_like(self.total)
