"""InternViT and the projector: the part of InternVL2 that all its sizes share."""

from collections.abc import Iterator
from typing import Any

from fcot.convert.mapping import Mapped, fused_linear, linear, norm, renamed


def vision_tensors(config: Any) -> Iterator[Mapped]:
    """Yield the tensors of the vision tower.

    Args:
        config: The native configuration of the tower.
    """
    width, patch = config.hidden_size, config.patch_size[0]
    positions = (config.image_size[0] // patch) ** 2 + 1
    old, new = "vision_model.embeddings.", "vision_tower.embeddings."
    yield renamed(old + "class_embedding", new + "cls_token", 1, 1, width)
    yield renamed(old + "position_embedding", new + "position_embeddings", 1, positions, width)
    old, new = old + "patch_embedding.", new + "patch_embeddings.projection."
    yield renamed(old + "weight", new + "weight", width, config.num_channels, patch, patch)
    yield renamed(old + "bias", new + "bias", width)
    for layer in range(config.num_hidden_layers):
        yield from _layer(config, f"vision_model.encoder.layers.{layer}.", f"vision_tower.encoder.layer.{layer}.")


def _layer(config: Any, old: str, new: str) -> Iterator[Mapped]:
    width, hidden = config.hidden_size, config.intermediate_size
    parts = [f"{new}attention.{part}_proj" for part in "qkv"]
    yield from fused_linear(f"{old}attn.qkv", parts, [width] * 3, width, bias=config.attention_bias)
    yield from linear(f"{old}attn.proj", f"{new}attention.projection_layer", width, width, bias=True)
    if config.use_qk_norm:
        yield from norm(f"{old}attn.q_norm", f"{new}attention.q_norm", width, bias=False)
        yield from norm(f"{old}attn.k_norm", f"{new}attention.k_norm", width, bias=False)
    for number, native in ((1, "layernorm_before"), (2, "layernorm_after")):
        yield from norm(f"{old}norm{number}", f"{new}{native}", width, bias=config.norm_type == "layer_norm")
        yield renamed(f"{old}ls{number}", f"{new}lambda_{number}", width)
    yield from linear(f"{old}mlp.fc1", f"{new}mlp.fc1", hidden, width, bias=True)
    yield from linear(f"{old}mlp.fc2", f"{new}mlp.fc2", width, hidden, bias=True)


def projector_tensors(config: Any) -> Iterator[Mapped]:
    """Yield the tensors of the projector.

    Args:
        config: The native configuration of the whole model.
    """
    shuffled = config.vision_config.hidden_size * int(1 / config.downsample_ratio) ** 2
    width = config.text_config.hidden_size
    yield from norm("mlp1.0", "multi_modal_projector.layer_norm", shuffled, bias=True)
    yield from linear("mlp1.1", "multi_modal_projector.linear_1", width, shuffled, bias=True)
    yield from linear("mlp1.3", "multi_modal_projector.linear_2", width, width, bias=True)
