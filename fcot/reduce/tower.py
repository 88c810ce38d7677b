"""What the vision tower of InternVL shows of tiles: features before the projector, and the attention of its layers."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from fcot.reduce.seen import Attention


def look(model: Any, pixel_values: Tensor, layers: Collection[str]) -> tuple[Tensor, dict[str, Attention]]:
    """Run the vision tower once.

    Args:
        model: An `InternVLForConditionalGeneration`.
        pixel_values: Normalised tiles `[T, 3, S, S]`.
        layers: Whose queries and keys to hold: "last", the layer that made the features, and "first".

    Returns:
        Features as the projector reads them `[T, N, C]`, and the attention of each of the layers.
    """
    inner, config = model.model, model.config
    encoder = inner.vision_tower.encoder.layer
    which = config.vision_feature_layer  # -1 is the last layer, -2 the one before it
    indices = {"first": 0, "last": which if which < 0 else which - 1}  # hidden_states[0] are the embeddings
    with queries_and_keys({name: encoder[indices[name]].attention for name in layers}) as held:
        shown = inner.vision_tower(pixel_values=pixel_values.to(inner.dtype), output_hidden_states=which != -1)
    hidden = shown.last_hidden_state if which == -1 else shown.hidden_states[which]
    patches = hidden[:, 1:] if config.vision_feature_select_strategy == "default" else hidden
    side = int(patches.shape[1] ** 0.5)
    raster = patches.unflatten(1, (side, side))
    features = inner.pixel_shuffle(raster, scale_factor=config.downsample_ratio).flatten(1, 2)
    return features, {name: Attention(**states) for name, states in held.items()}


@contextmanager
def queries_and_keys(layers: dict[str, Any]) -> Iterator[dict[str, dict[str, Any]]]:
    """Hold the queries and keys that enter the attention of some layers, behind the norms that 26B's tower has.

    The norms are modules in every InternViT, identities where a tower has none, so that no kernel needs to be changed
    and no projection is computed twice.
    """
    held: dict[str, dict[str, Any]] = {name: {"heads": layer.num_heads} for name, layer in layers.items()}

    def keep(name: str, what: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, states: Tensor) -> None:
            held[name][what] = states

        return hook

    handles = []
    try:
        for name, layer in layers.items():
            handles.append(layer.q_norm.register_forward_hook(keep(name, "queries")))
            handles.append(layer.k_norm.register_forward_hook(keep(name, "keys")))
        yield held
    finally:
        for handle in handles:
            handle.remove()
