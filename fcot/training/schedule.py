"""Learning-rate schedules: linear warm-up, then cosine decay, a constant rate, or a constant rate that decays late."""

import math
from typing import Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fcot.errors import UserError, nearest

Shape = Literal["cosine", "constant", "warmup_stable_decay"]
SHAPES: tuple[str, ...] = get_args(Shape)


def schedule(
    optimizer: Optimizer,
    *,
    warmup: float,
    total_steps: int,
    shape: str = "cosine",
    floor: float = 0.0,
    decay: float = 0.2,
) -> LambdaLR:
    """Return a schedule that rises linearly to the peak, then goes on as its shape says.

    Args:
        optimizer: Optimizer whose learning rates are scaled.
        warmup: Steps of warm-up if ≥ 1, otherwise their share of all steps.
        total_steps: Steps of the whole training.
        shape: cosine falls along a half cosine; constant stays at the peak; warmup_stable_decay stays there and falls
            linearly at the end.
        floor: Share of the peak learning rate that remains at the end.
        decay: Share of all steps in which warmup_stable_decay falls.

    Raises:
        UserError: If there is no such shape, or the decay is no share.
    """
    check_schedule(shape, decay)
    warm = int(warmup) if warmup >= 1 else round(warmup * total_steps)
    falls = max(warm, total_steps - round(decay * total_steps)) if shape == "warmup_stable_decay" else warm

    def scale(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if shape == "constant" or step < falls:
            return 1.0
        done = min(1.0, (step - falls) / max(1, total_steps - falls))
        return floor + (1 - floor) * (0.5 * (1 + math.cos(math.pi * done)) if shape == "cosine" else 1 - done)

    return LambdaLR(optimizer, scale)


def check_schedule(shape: str, decay: float) -> None:
    """Check the settings of a schedule.

    Raises:
        UserError: If there is no such shape, or the decay is no share.
    """
    if shape not in SHAPES:
        raise UserError(f"There is no learning-rate schedule {shape!r}.{nearest(shape, SHAPES)}")
    if not 0.0 <= decay <= 1.0:
        raise UserError(f"lr_decay is {decay}, a share of all steps.\nGive a number from 0 to 1.")
