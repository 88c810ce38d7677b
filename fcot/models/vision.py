"""Run the vision tower and shape its output for the projector."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcot.errors import UserError


def vision_features(model: Any, pixels: Tensor, levels: Sequence[int] = ()) -> Tensor:
    """Return pixel-shuffled features `[tiles, tokens, 4·C]` of normalised tiles `[tiles, 3, S, S]`.

    Args:
        model: A transformers `InternVLModel`.
        pixels: Normalised tiles, at least one.
        levels: Layers of the tower whose features are joined behind those of the last `[tiles, tokens, 4·C·(1 + L)]`.
    """
    layer = model.config.vision_feature_layer  # −1 in every InternVL2
    seen = model.vision_tower(pixels, output_hidden_states=layer != -1 or bool(levels))
    last = seen.last_hidden_state if layer == -1 else seen.hidden_states[layer]
    return torch.cat([shuffled(model, hidden) for hidden in (last, *(seen.hidden_states[each] for each in levels))], -1)


def shuffled(model: Any, hidden: Tensor) -> Tensor:
    """Return pixel-shuffled features `[tiles, tokens, 4·C]` of a layer's states `[tiles, 1 + patches, C]`."""
    patches = hidden[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    raster: Tensor = model.pixel_shuffle(patches.unflatten(1, (side, side)), scale_factor=model.config.downsample_ratio)
    return raster.flatten(1, 2)


def split_levels(features: Tensor, levels: Sequence[int], width: int) -> tuple[Tensor, dict[int, Tensor]]:
    """Take apart what `vision_features` has joined: the last layer's features, and those of each level.

    Args:
        features: `[tiles, tokens, width · (1 + L)]`.
        levels: Layers that are joined behind the last.
        width: Width of one layer's features.

    Raises:
        UserError: If levels are missing.
    """
    last, *others = features.split(width, dim=-1)
    if len(others) < len(levels):
        raise UserError(
            f"The compressor reads layers {list(levels)} of the vision tower, and only the last is given.\n"
            "Give pixel_values to forward or generate; get_image_features cannot be used with this student."
        )
    return last, dict(zip(levels, others, strict=False))
