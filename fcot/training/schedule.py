"""Learning-rate schedule: linear warm-up, then cosine decay."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, *, warmup: float, total_steps: int, floor: float = 0.0) -> LambdaLR:
    """Return a schedule that rises linearly, then falls along a half cosine.

    Args:
        optimizer: Optimizer whose learning rates are scaled.
        warmup: Steps of warm-up if ≥ 1, otherwise their share of all steps.
        total_steps: Steps of the whole training.
        floor: Share of the peak learning rate that remains at the end.
    """
    warm = int(warmup) if warmup >= 1 else round(warmup * total_steps)

    def scale(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        done = min(1.0, (step - warm) / max(1, total_steps - warm))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, scale)
