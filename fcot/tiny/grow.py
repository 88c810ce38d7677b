"""Give a tiny InternVL's language model heads of another width and more layers, and keep what it has learned.

Serving engines have attention kernels for heads of width 32, 64, 80 and so on, not for the 40 of the first tiny
teacher. Its reading, which takes hours to learn, is kept: the grown model starts close to the old one.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fcot.errors import UserError

QUERIES = "0.self_attn.q_proj.weight"  # of the first layer; what stands before it depends on who saved the model
Weights = dict[str, Tensor]


def grow(
    source: Path, target: Path, *, head_width: int = 32, layers: int = 6, rope_theta: float = 1e6, seed: int = 0
) -> Path:
    """Write a model folder whose language model has narrower heads and more layers than another's.

    Each old head becomes a new one: of queries and keys, the rotary pairs are kept whose frequencies are nearest to the
    new ones; of values and outputs, the best approximation of that width. Further heads fill the model's width, and
    further layers are spread between the old ones; both add nothing until they are trained.

    Args:
        source: Folder of a native InternVL with a Qwen2 language model without grouped heads.
        target: The new folder.
        head_width: Width of the new heads.
        layers: Layers of the new language model.
        rope_theta: Base of the new rotary frequencies. Only pairs that hardly turn between two tokens can compare what
            they are, rather than where: at 1e6, 9 of 16 pairs turn by less than 1 over 400 tokens, at 1e4 only 5.
        seed: Seed of the new heads and layers.

    Returns:
        The new folder.

    Raises:
        UserError: If the language model cannot be grown so.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"]
    width, heads = text["hidden_size"], text["num_attention_heads"]
    old_width = width // heads
    if text["model_type"] != "qwen2" or text["num_key_value_heads"] != heads:
        raise UserError(
            f"{source} has no Qwen2 language model with as many key as query heads.\nOnly such a one grows."
        )
    if width % head_width or head_width % 2 or head_width > old_width or layers < text["num_hidden_layers"]:
        raise UserError(
            f"A language model of width {width}, heads of {old_width} and {text['num_hidden_layers']} layers "
            f"cannot get heads of {head_width} and {layers} layers.\n"
            "Give a head width that is even, not larger than before and divides the width, and no fewer layers."
        )
    weights, draw = load_file(source / "model.safetensors"), torch.Generator().manual_seed(seed)
    spread = text["initializer_range"]
    stem = next(name.removesuffix(QUERIES) for name in weights if name.endswith(QUERIES))
    rotary = text["rope_parameters"]
    kept = _kept_pairs(_frequencies(old_width, rotary["rope_theta"]), _frequencies(head_width, rope_theta))
    for layer in range(text["num_hidden_layers"]):
        weights |= _narrowed(weights, f"{stem}{layer}.self_attn.", heads, kept, spread, draw)
    weights = _deepened(weights, stem, text["num_hidden_layers"], layers, spread, draw)
    rotary["rope_theta"] = rope_theta
    text |= {
        "num_attention_heads": width // head_width,
        "num_key_value_heads": width // head_width,
        "num_hidden_layers": layers,
        "layer_types": ["full_attention"] * layers,
    }
    return _written(source, target, config, weights)


def _frequencies(head_width: int, theta: float) -> list[float]:
    """Return by how much each rotary pair of a head turns from one token to the next."""
    return [theta ** (-2 * pair / head_width) for pair in range(head_width // 2)]


def _kept_pairs(old: list[float], new: list[float]) -> list[int]:
    """Return for each new rotary pair the old one, not yet taken, that is nearest in frequency."""
    kept: list[int] = []
    for frequency in new:
        left = set(range(len(old))) - set(kept)
        kept.append(min(left, key=lambda pair: (abs(old[pair] - frequency), pair)))
    return kept


def _narrowed(
    weights: Weights, attention: str, heads: int, pairs: list[int], spread: float, draw: torch.Generator
) -> Weights:
    """Return an attention layer's weights with every head narrowed to some rotary pairs, and new heads beside them."""
    names = [f"{attention}{part}_proj.{kind}" for part in "qkv" for kind in ("weight", "bias")]
    query, query_bias, key, key_bias, value, value_bias = (weights[name] for name in names)
    out = weights[f"{attention}o_proj.weight"]
    width, old_width, head_width = len(query), len(query) // heads, 2 * len(pairs)
    kept = [half + pair for half in (0, old_width // 2) for pair in pairs]  # the halves of a pair are half a head apart
    scale = (head_width / old_width) ** 0.5  # scores are divided by the root of the head's width
    rows: dict[str, list[Tensor]] = {name: [] for name in (*names, "out")}
    for head in range(heads):
        own = slice(head * old_width, (head + 1) * old_width)
        left, strength, right = torch.linalg.svd(out[:, own] @ value[own], full_matrices=False)
        root = strength[:head_width].sqrt()
        narrow_out = left[:, :head_width] * root
        bias = torch.linalg.lstsq(narrow_out, out[:, own] @ value_bias[own]).solution
        parts = (query[own][kept] * scale, query_bias[own][kept] * scale, key[own][kept], key_bias[own][kept])
        for name, part in zip(rows, (*parts, root[:, None] * right[:head_width], bias, narrow_out.T), strict=True):
            rows[name].append(part)
    for name, tensors in rows.items():
        fresh = torch.randn(width - heads * head_width, width, generator=draw) * spread
        if name.endswith("bias"):
            fresh = fresh.new_zeros(len(fresh))
        tensors.append(torch.zeros_like(fresh) if name == "out" else fresh)
    joined = {name: torch.cat(parts) for name, parts in rows.items()}
    return {**{name: joined[name] for name in names}, f"{attention}o_proj.weight": joined["out"].T}


def _deepened(weights: Weights, stem: str, layers: int, wanted: int, spread: float, draw: torch.Generator) -> Weights:
    """Return weights with layers that add nothing spread between the old ones, the last one staying last."""
    # where the old layers go: the first stays first, the last last
    places = [round(layer * (wanted - 1) / max(1, layers - 1)) for layer in range(layers)]
    deep = {name: tensor for name, tensor in weights.items() if not name.startswith(stem)}
    parts = [name.removeprefix(f"{stem}0.") for name in weights if name.startswith(f"{stem}0.")]
    for place in range(wanted):
        for part in parts:
            like = weights[f"{stem}0.{part}"]
            if place in places:
                tensor = weights[f"{stem}{places.index(place)}.{part}"]
            elif "norm" in part:
                tensor = torch.ones_like(like)
            elif part.endswith("bias") or "o_proj" in part or "down_proj" in part:
                tensor = torch.zeros_like(like)
            else:
                tensor = torch.randn(like.shape, generator=draw) * spread
            deep[f"{stem}{place}.{part}"] = tensor.contiguous()
    return deep


def _written(source: Path, target: Path, config: dict[str, Any], weights: Weights) -> Path:
    """Write a model folder: another's side files, a configuration and weights."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix == ".json" and file.name != "config.json":
            shutil.copy(file, target / file.name)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    whole = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(whole, target / "model.safetensors", {"format": "pt"})
    return target
