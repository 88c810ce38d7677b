"""A grown language model starts from what the old one computes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, InternVLForConditionalGeneration

from fcot.errors import UserError
from fcot.tiny import grow, write_architecture

WIDTH, HEADS = 160, 4  # heads of 40, as the first tiny teacher has


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = write_architecture(
        tmp_path_factory.mktemp("old"), tile_size=56, width=WIDTH, vision_layers=1, text_layers=3, heads=HEADS
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder))
        for name, parameter in model.named_parameters():
            if name.endswith("proj.bias"):
                torch.nn.init.normal_(parameter, std=0.1)  # they start at 0
        model.save_pretrained(folder)
    return folder


@torch.no_grad()
def logits(folder):
    ids = torch.arange(3, 120)[None]
    return AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True).eval()(input_ids=ids).logits


def text_config(folder):
    return json.loads((folder / "config.json").read_text())["text_config"]


@pytest.mark.parametrize("layers", [3, 4, 6])
def test_further_layers_add_nothing_until_they_are_trained(old, tmp_path, layers):
    new = grow(old, tmp_path / "new", head_width=40, layers=layers, rope_theta=1e4)
    assert text_config(new)["num_hidden_layers"] == layers
    torch.testing.assert_close(logits(new), logits(old), atol=1e-4, rtol=1e-4)  # of about 1: sums in another order


def test_heads_that_use_less_than_the_new_width_compute_the_same(old, tmp_path):
    slim = tmp_path / "slim"
    slim.mkdir()
    for file in old.glob("*.json"):
        (slim / file.name).write_bytes(file.read_bytes())
    weights = load_file(old / "model.safetensors")
    for name, tensor in weights.items():
        if "language_model" in name and "self_attn" in name:
            heads = tensor.T if "o_proj" in name else tensor
            for head in heads.split(40):  # views
                if "q_proj" in name or "k_proj" in name:
                    head[16:20], head[36:40] = 0, 0  # the slowest rotary pairs
                else:
                    head[32:] = 0
    save_file(weights, slim / "model.safetensors", {"format": "pt"})
    new = grow(slim, tmp_path / "new", head_width=32, layers=3, rope_theta=1e4 ** (32 / 40))
    assert text_config(new)["num_attention_heads"] == text_config(new)["num_key_value_heads"] == 5
    torch.testing.assert_close(logits(new), logits(slim), atol=1e-4, rtol=1e-4)


def test_pairs_go_where_they_turn_about_as_fast_as_before(old, tmp_path):
    new = grow(old, tmp_path / "new", layers=3)
    assert text_config(new)["rope_parameters"]["rope_theta"] == 1e6
    before, after = logits(old).flatten(0, 1), logits(new).flatten(0, 1)
    alike = torch.nn.functional.cosine_similarity(before - before.mean(0), after - after.mean(0)).mean()
    shuffled = torch.nn.functional.cosine_similarity(before - before.mean(0), (after - after.mean(0)).roll(1, 0)).mean()
    assert alike > 0.5 > 0.2 > shuffled


def test_what_cannot_grow_is_refused(old, tmp_path):
    for wrong in ({"head_width": 33}, {"head_width": 80}, {"layers": 2}):
        with pytest.raises(UserError, match=r"of 40 and 3 layers cannot get .*\nGive a head width that is even"):
            grow(old, tmp_path / "new", **{"head_width": 40, **wrong})
    assert not (tmp_path / "new").exists()
