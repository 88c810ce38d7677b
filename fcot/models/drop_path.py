"""Stochastic depth for the vision tower, which transformers' InternVL lacks (arXiv 1603.09382)."""

from typing import Any

import torch
from torch import Tensor, nn

from fcot.errors import UserError


def add_drop_path(vision_tower: nn.Module, rate: float) -> None:
    """Skip residual branches at random during training, for a whole tile at a time.

    The probability grows linearly over the layers from 0 to `rate`, as in InternVL's own tower; kept branches are
    scaled so that the expected output is unchanged. Evaluation is not affected.

    Args:
        vision_tower: An InternVL vision model.
        rate: Probability in the last layer, 0 ≤ rate < 1; 0 leaves the tower unchanged.

    Raises:
        UserError: If the rate is out of range.
    """
    if not 0 <= rate < 1:
        raise UserError(f"drop_path is {rate}. It must be at least 0 and less than 1.")
    if rate == 0:
        return
    layers: Any = vision_tower.encoder.layer  # type: ignore[union-attr]
    for layer, chance in zip(layers, torch.linspace(0, rate, len(layers)).tolist(), strict=True):
        for branch in (layer.attention, layer.mlp):
            branch.register_forward_hook(_DropPath(chance))


class _DropPath:
    """A forward hook that zeroes a branch's output for a random part of the batch."""

    def __init__(self, chance: float) -> None:
        self.keep = 1.0 - chance

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not module.training or self.keep == 1.0:
            return output
        branch: Tensor = output[0] if isinstance(output, tuple) else output
        kept = torch.rand(len(branch), 1, 1, device=branch.device, dtype=branch.dtype) < self.keep
        scaled = branch * kept / self.keep
        return (scaled, *output[1:]) if isinstance(output, tuple) else scaled
