"""What a vision tower shows of tiles: features before the projector, and the attention of its layers.

Two towers are known, InternVL's InternViT and the CLIP of LLaVA-1.5, where each image is one tile, and LLaVA-NeXT.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from fcot.internvl.tokens import tokens_per_tile
from fcot.reduce.seen import Attention


def tokens_of_tile(config: Any) -> int:
    """Return how many visual tokens a tile has without any reduction."""
    if unshuffles(config):
        return tokens_per_tile(config)
    side: int = config.vision_config.image_size // config.vision_config.patch_size
    return side * side


def unshuffles(config: Any) -> bool:
    """Return whether blocks of patches become a token, as in InternVL."""
    return hasattr(config, "downsample_ratio")


def look(model: Any, pixel_values: Tensor, layers: Collection[str]) -> tuple[Tensor, dict[str, Attention]]:
    """Run the vision tower once.

    Args:
        model: InternVL, LLaVA-1.5 or LLaVA-NeXT.
        pixel_values: Normalised tiles `[T, 3, S, S]`.
        layers: Whose queries and keys to hold: "last", "behind" or "first", as `Seen` has them.

    Returns:
        Features as the projector reads them `[T, N, C]`, and the attention of each of the layers.
    """
    inner, config = model.model, model.config
    which = config.vision_feature_layer  # -1 is the last layer, -2 the one before it
    with layers_held(model, layers) as held:
        shown = inner.vision_tower(pixel_values=pixel_values.to(inner.dtype), output_hidden_states=which != -1)
    hidden = shown.last_hidden_state if which == -1 else shown.hidden_states[which]
    patches = hidden[:, 1:] if config.vision_feature_select_strategy == "default" else hidden
    if unshuffles(config):
        side = int(patches.shape[1] ** 0.5)
        raster = patches.unflatten(1, (side, side))
        patches = inner.pixel_shuffle(raster, scale_factor=config.downsample_ratio).flatten(1, 2)
    return patches, {name: Attention(**states) for name, states in held.items()}


@contextmanager
def layers_held(model: Any, layers: Collection[str]) -> Iterator[dict[str, dict[str, Any]]]:
    """Hold queries and keys of layers of a model's tower, by the names that `Seen` has for them; see below."""
    which, stack = model.config.vision_feature_layer, layers_of(model.model.vision_tower)
    made = which + len(stack) if which < 0 else which - 1  # hidden_states[0] are the embeddings
    indices = {"first": 0, "last": made, "behind": min(made + 1, len(stack) - 1)}
    with queries_and_keys({name: stack[indices[name]] for name in layers}) as held:
        yield held


def encoded(model: Any, rows: Tensor) -> BaseModelOutputWithPooling:
    """Return projected rows `[tokens, H]` in the form in which the model takes them as `mm_encoder_outputs`.

    Each row passes for an image of one token: by that, transformers' `generate` deals them out to beams rightly.
    """
    single = rows[:, None]
    return BaseModelOutputWithPooling(pooler_output=single if unshuffles(model.config) else list(single))


@contextmanager
def queries_and_keys(layers: dict[str, Any]) -> Iterator[dict[str, dict[str, Any]]]:
    """Hold the queries and keys that enter the attention of some layers, by name.

    InternViT's norms of queries and keys are modules of every tower, identities where it has none, so that hooks on
    them see what attention works with; CLIP has no such norms, and its projections are hooked. No kernel is changed and
    nothing is computed twice.
    """
    held: dict[str, dict[str, Any]] = {}
    owner = threading.get_ident()  # a server's other threads may run the same tower meanwhile

    def keep(name: str, what: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, states: Tensor) -> None:
            if threading.get_ident() == owner:
                held[name][what] = states

        return hook

    handles = []
    try:
        for name, layer in layers.items():
            attention, queries, keys = attention_of(layer)
            held[name] = {"heads": attention.num_heads}
            handles.append(queries.register_forward_hook(keep(name, "queries")))
            handles.append(keys.register_forward_hook(keep(name, "keys")))
        yield held
    finally:
        for handle in handles:
            handle.remove()


def layers_of(tower: Any) -> Any:
    """Return the layers of a tower."""
    return tower.encoder.layer if hasattr(tower.encoder, "layer") else tower.encoder.layers


def attention_of(layer: Any) -> tuple[Any, Any, Any]:
    """Return the attention of a layer, and the modules that queries and keys come from."""
    if hasattr(layer, "attention"):
        return layer.attention, layer.attention.q_norm, layer.attention.k_norm
    return layer.self_attn, layer.self_attn.q_proj, layer.self_attn.k_proj
