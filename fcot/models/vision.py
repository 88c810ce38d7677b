"""Run the vision tower and shape its output for the projector."""

from typing import Any

from torch import Tensor


def vision_features(model: Any, pixels: Tensor) -> Tensor:
    """Return pixel-shuffled features `[tiles, tokens, 4·C]` of normalised tiles `[tiles, 3, S, S]`.

    Args:
        model: A transformers `InternVLModel`.
        pixels: Normalised tiles, at least one.
    """
    layer = model.config.vision_feature_layer  # −1 in every InternVL2
    seen = model.vision_tower(pixels, output_hidden_states=layer != -1)
    hidden = (seen.last_hidden_state if layer == -1 else seen.hidden_states[layer])[:, 1:]
    side = int(hidden.shape[1] ** 0.5)
    shuffled: Tensor = model.pixel_shuffle(
        hidden.unflatten(1, (side, side)), scale_factor=model.config.downsample_ratio
    )
    return shuffled.flatten(1, 2)
