"""Pixels as the vision tower reads them."""

import torch
from torch import Tensor


def normalize(tiles: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise uint8 tiles `[tiles, 3, S, S]` on their device, by each channel's mean and deviation `[3]`."""
    return (tiles.to(mean.dtype) / 255 - mean[:, None, None]) / std[:, None, None]


def denormalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Invert `normalize`: return the uint8 tiles of its float32 result `[tiles, 3, S, S]`."""
    return ((pixels * std[:, None, None] + mean[:, None, None]) * 255).round().to(torch.uint8)
