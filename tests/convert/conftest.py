"""Small checkpoints in InternVL2's original layout, and what its original code computes from them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).parent
FOREIGN_CODE = "raise SystemExit('code of the folder was run')"
FAMILIES = {"internlm2": "InternLM2ForCausalLM", "qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}


def small_config(family: str, *, vision: dict | None = None, **language: Any) -> dict[str, Any]:
    """Return an original `config.json`: the fixture's, with another language model and other sizes."""
    config = json.loads((HERE / "internvl2_original" / "config.json").read_text())
    known = config["llm_config"]
    known.update(architectures=[FAMILIES[family]], model_type=family, **language)
    if family == "llama":
        known.setdefault("attention_bias", False)
    config["vision_config"].update(vision or {})
    config["force_image_size"] = config["vision_config"]["image_size"]
    return config


def shapes(config: dict[str, Any]) -> dict[str, list[int]]:
    """Return names and shapes of an original checkpoint, as its code makes them."""
    vision, text = config["vision_config"], config["llm_config"]
    c, patch, positions = vision["hidden_size"], vision["patch_size"], (vision["image_size"] // 14) ** 2 + 1
    found: dict[str, list[int]] = {
        "vision_model.embeddings.class_embedding": [1, 1, c],
        "vision_model.embeddings.position_embedding": [1, positions, c],
        "vision_model.embeddings.patch_embedding.weight": [c, 3, patch, patch],
        "vision_model.embeddings.patch_embedding.bias": [c],
    }

    def linear(name: str, rows: int, columns: int, bias: bool) -> None:
        found[f"{name}.weight"] = [rows, columns]
        if bias:
            found[f"{name}.bias"] = [rows]

    for layer in range(vision["num_hidden_layers"]):
        here = f"vision_model.encoder.layers.{layer}."
        linear(here + "attn.qkv", 3 * c, c, vision["qkv_bias"])
        linear(here + "attn.proj", c, c, True)
        linear(here + "mlp.fc1", vision["intermediate_size"], c, True)
        linear(here + "mlp.fc2", c, vision["intermediate_size"], True)
        for name in ("norm1", "norm2"):
            found[f"{here}{name}.weight"] = [c]
            if vision["norm_type"] == "layer_norm":
                found[f"{here}{name}.bias"] = [c]
        for name in ("ls1", "ls2"):
            found[here + name] = [c]
        if vision["qk_normalization"]:
            found[here + "attn.q_norm.weight"] = found[here + "attn.k_norm.weight"] = [c]
    width = text["hidden_size"]
    found |= {"mlp1.0.weight": [4 * c], "mlp1.0.bias": [4 * c]}
    linear("mlp1.1", width, 4 * c, True)
    linear("mlp1.3", width, width, True)
    heads, groups = text["num_attention_heads"], text["num_key_value_heads"]
    head, root = width // heads, "language_model.model."
    for layer in range(text["num_hidden_layers"]):
        here = f"{root}layers.{layer}."
        if text["model_type"] == "internlm2":
            linear(here + "attention.wqkv", (heads + 2 * groups) * head, width, text["bias"])
            linear(here + "attention.wo", width, width, text["bias"])
            names, norms = ("feed_forward.w1", "feed_forward.w3", "feed_forward.w2"), ("attention_norm", "ffn_norm")
        else:
            bias = text["model_type"] == "qwen2" or text["attention_bias"]
            for part, rows in (("q", heads), ("k", groups), ("v", groups)):
                linear(f"{here}self_attn.{part}_proj", rows * head, width, bias)
            linear(here + "self_attn.o_proj", width, width, text["model_type"] == "llama" and text["attention_bias"])
            names, norms = (
                ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
                ("input_layernorm", "post_attention_layernorm"),
            )
        for name in names[:2]:
            linear(here + name, text["intermediate_size"], width, False)
        linear(here + names[2], width, text["intermediate_size"], False)
        found |= {f"{here}{name}.weight": [width] for name in norms}
    internlm2 = text["model_type"] == "internlm2"
    found[f"{root}norm.weight"] = [width]
    found[f"{root}{'tok_embeddings' if internlm2 else 'embed_tokens'}.weight"] = [text["vocab_size"], width]
    if not text.get("tie_word_embeddings"):
        found[f"language_model.{'output' if internlm2 else 'lm_head'}.weight"] = [text["vocab_size"], width]
    return found


@pytest.fixture(scope="session")
def original_shapes() -> Callable[[dict[str, Any]], dict[str, list[int]]]:
    """The names and shapes of an original checkpoint, by its `config.json`."""
    return shapes


@pytest.fixture(scope="session")
def make_original(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a random checkpoint of the original layout; options as `small_config`'s."""

    def make(
        family: str = "internlm2",
        *,
        seed: int = 0,
        shards: int = 1,
        pickled: bool = False,
        dtype=torch.float32,
        **options,
    ) -> Path:
        folder = tmp_path_factory.mktemp(family)
        config = small_config(family, **options)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "modeling_internvl_chat.py").write_text(FOREIGN_CODE)
        generator = torch.Generator().manual_seed(seed)
        weights = {
            # norms and layer scales near one, the rest small: nothing vanishes and nothing explodes
            name: (torch.randn(shape, generator=generator) * 0.2 + (len(shape) == 1 and name.endswith("weight"))).to(
                dtype
            )
            for name, shape in shapes(config).items()
        }
        write_weights(folder, weights, shards, pickled)
        return folder

    return make


def write_weights(folder: Path, weights: dict[str, Tensor], shards: int, pickled: bool) -> None:
    single = "pytorch_model.bin" if pickled else "model.safetensors"
    save = torch.save if pickled else save_file
    if shards == 1:
        save(weights, folder / single)
        return
    stem, suffix = single.split(".")
    weight_map = {}
    for shard in range(shards):
        names = list(weights)[shard::shards]  # layers are spread over the shards
        file = f"{stem}-{shard + 1:05d}-of-{shards:05d}.{suffix}"
        save({name: weights[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    (folder / f"{single}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.fixture(scope="session")
def read_weights() -> Callable[[Path], dict[str, Tensor]]:
    """Return a function that reads all weights of a folder."""

    def read(folder: Path) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for file in (*folder.glob("model*.safetensors"), *folder.glob("*.bin")):
            weights |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        return weights

    return read


@pytest.fixture(scope="session")
def fixture_original() -> Path:
    """A folder whose expected outputs the original code itself computed."""
    return HERE / "internvl2_original"


@pytest.fixture(scope="session")
def fixture_tokenizer() -> Path:
    """A folder that the original tokenizer saved."""
    return HERE / "internlm2_tokenizer"


@pytest.fixture(scope="session")
def original_with_tokenizer(make_original: Callable[..., Path], fixture_tokenizer: Path) -> Path:
    """A checkpoint of the original layout with the original tokenizer, code and all."""
    folder = make_original("internlm2", vocab_size=915)
    for name in ("tokenizer.model", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"):
        shutil.copyfile(fixture_tokenizer / name, folder / name)
    (folder / "tokenization_internlm2.py").write_text(FOREIGN_CODE)
    return folder


class OriginalModel:
    """InternVL2's computation on the original names, written from its description.

    Args:
        weights: By their original names.
        config: The original `config.json`.
    """

    def __init__(self, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.weights, self.vision, self.text = weights, config["vision_config"], config["llm_config"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor, eps: float, layer_norm: bool = False) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        if layer_norm:
            return F.layer_norm(x, weight.shape, weight, self.weights[f"{name}.bias"], eps)
        return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

    def features(self, pixels: Tensor) -> Tensor:
        """Return visual tokens `[tiles, tokens, width]`."""
        weights, eps = self.weights, self.vision["layer_norm_eps"]
        root = "vision_model.embeddings."
        patches = F.conv2d(pixels, weights[root + "patch_embedding.weight"], weights[root + "patch_embedding.bias"], 14)
        x = torch.cat([weights[root + "class_embedding"].expand(len(pixels), -1, -1), patches.flatten(2).mT], 1)
        x = x + weights[root + "position_embedding"]
        is_layer_norm = self.vision["norm_type"] == "layer_norm"
        for layer in range(self.vision["num_hidden_layers"]):
            here = f"vision_model.encoder.layers.{layer}."
            q, k, v = self.linear(here + "attn.qkv", self.norm(here + "norm1", x, eps, is_layer_norm)).chunk(3, -1)
            if self.vision["qk_normalization"]:
                q, k = self.norm(here + "attn.q_norm", q, eps), self.norm(here + "attn.k_norm", k, eps)
            q, k, v = (
                part.unflatten(-1, (self.vision["num_attention_heads"], -1)).transpose(1, 2) for part in (q, k, v)
            )
            mixed = ((q @ k.mT) / math.sqrt(q.shape[-1])).softmax(-1) @ v
            x = x + weights[here + "ls1"] * self.linear(here + "attn.proj", mixed.transpose(1, 2).flatten(2))
            hidden = F.gelu(self.linear(here + "mlp.fc1", self.norm(here + "norm2", x, eps, is_layer_norm)))
            x = x + weights[here + "ls2"] * self.linear(here + "mlp.fc2", hidden)
        side = int(x[:, 1:].shape[1] ** 0.5)
        raster = x[:, 1:].unflatten(1, (side // 2, 2, side // 2, 2))  # row, row within, column, column within
        x = raster.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)
        x = self.norm("mlp1.0", x, 1e-5, layer_norm=True)
        return self.linear("mlp1.3", F.gelu(self.linear("mlp1.1", x)))

    def logits(self, ids: Tensor, features: Tensor, placeholder: int) -> Tensor:
        """Return logits `[1, length, vocabulary]` of ids `[1, length]` with visual tokens at the placeholders."""
        text, eps, root = self.text, self.text["rms_norm_eps"], "language_model.model."
        internlm2 = text["model_type"] == "internlm2"
        embedding = self.weights[f"{root}{'tok_embeddings' if internlm2 else 'embed_tokens'}.weight"]
        x = F.embedding(ids, embedding)
        x[ids == placeholder] = features.flatten(0, 1)
        names = (
            ("attention_norm", "wo", "ffn_norm")
            if internlm2
            else ("input_layernorm", "o_proj", "post_attention_layernorm")
        )
        for layer in range(text["num_hidden_layers"]):
            here = f"{root}layers.{layer}."
            q, k, v = self.heads(here, self.norm(here + names[0], x, eps))
            q, k = self.rotated(q), self.rotated(k)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + self.linear(f"{here}{'attention' if internlm2 else 'self_attn'}.{names[1]}", mixed)
            hidden = self.norm(here + names[2], x, eps)
            gate, up, down = (
                ("feed_forward.w1", "feed_forward.w3", "feed_forward.w2")
                if internlm2
                else ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
            )
            x = x + self.linear(here + down, F.silu(self.linear(here + gate, hidden)) * self.linear(here + up, hidden))
        head = self.weights.get(f"language_model.{'output' if internlm2 else 'lm_head'}.weight", embedding)
        return F.linear(self.norm(f"{root}norm", x, eps), head)

    def heads(self, here: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values `[1, heads, length, width of a head]`, keys and values repeated."""
        heads, groups = self.text["num_attention_heads"], self.text["num_key_value_heads"]
        if self.text["model_type"] == "internlm2":
            fused = self.linear(here + "attention.wqkv", x).unflatten(-1, (groups, heads // groups + 2, -1))
            q, k, v = fused[..., :-2, :].flatten(2, 3), fused[..., -2, :], fused[..., -1, :]
        else:
            parts = (self.linear(f"{here}self_attn.{part}_proj", x) for part in "qkv")
            q, k, v = (
                part.unflatten(-1, (count, -1)) for part, count in zip(parts, (heads, groups, groups), strict=True)
            )
        k, v = (part.repeat_interleave(heads // groups, dim=2) for part in (k, v))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def rotated(self, x: Tensor) -> Tensor:
        """Turn halves of each head by position; `rope_scaling` as InternLM2 does it."""
        length, width = x.shape[-2:]
        base, positions = self.text["rope_theta"], torch.arange(length).float()
        scaling, longest = self.text.get("rope_scaling") or {}, self.text["max_position_embeddings"]
        if scaling.get("type") == "linear":
            positions = positions / scaling["factor"]
        elif scaling.get("type") == "dynamic" and length > longest:
            stretch = scaling["factor"] * length / longest - (scaling["factor"] - 1)
            base = base * stretch ** (width / (width - 2))
        angles = torch.outer(positions, 1 / base ** (torch.arange(0, width, 2).float() / width)).repeat(1, 2)
        half = torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1)
        return x * angles.cos() + half * angles.sin()


@pytest.fixture(scope="session")
def original_model() -> type[OriginalModel]:
    """The original computation, given weights and `config.json`."""
    return OriginalModel
