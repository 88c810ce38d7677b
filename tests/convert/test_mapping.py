import math

import pytest
import torch

from fcot.convert.config import native_config
from fcot.convert.families import family_of_original
from fcot.convert.mapping import Mapped
from fcot.convert.streams import mapped_tensors

VIT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
    "qkv_bias": True,
    "qk_normalization": False,
    "norm_type": "layer_norm",
}
SIZES = {  # hidden, intermediate, layers, heads, key-value heads; billions and millions of parameters
    "2B": ((2048, 8192, 24, 16, 8), 2.21, 12.60),
    "8B": ((4096, 14336, 32, 32, 8), 8.08, 33.57),
}


def test_each_group_of_a_fused_tensor_holds_its_queries_then_key_then_value():
    entry = Mapped("wqkv", ("q", "k", "v"), (2 * 4 * 3, 5), rows=(2 * 3, 3, 3), groups=2)
    rows = torch.arange(24)[:, None].expand(24, 5)
    parts = dict(entry.split(rows))
    assert parts["q"][:, 0].tolist() == [*range(0, 6), *range(12, 18)]
    assert parts["k"][:, 0].tolist() == [*range(6, 9), *range(18, 21)]
    assert parts["v"][:, 0].tolist() == [*range(9, 12), *range(21, 24)]
    assert {name: tuple(part.shape) for name, part in parts.items()} == entry.native_shapes
    assert torch.equal(entry.fuse([parts["q"], parts["k"], parts["v"]]), rows)


@pytest.mark.parametrize("size", SIZES)
def test_the_published_sizes_have_their_published_numbers_of_parameters(size, tmp_path):
    (width, hidden, layers, heads, groups), billions, projector_millions = SIZES[size]
    llm = {"architectures": ["InternLM2ForCausalLM"], "vocab_size": 92553, "bias": False, "hidden_size": width}
    llm |= {"intermediate_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    original = {"model_type": "internvl_chat", "template": "internlm2-chat", "vision_config": VIT}
    original["llm_config"] = {**llm, "num_key_value_heads": groups}
    file = tmp_path / "config.json"
    entries = mapped_tensors(native_config(original, file), family_of_original(original, file))
    counts = {part: 0 for part in ("vision_model", "mlp1", "language_model")}
    for entry in entries:
        counts[entry.original.split(".")[0]] += math.prod(entry.shape)
    assert round(counts["vision_model"] / 1e6, 2) == 304.01
    assert round(counts["mlp1"] / 1e6, 2) == projector_millions
    assert round(sum(counts.values()) / 1e9, 2) == billions
