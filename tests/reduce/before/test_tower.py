"""What is held of the vision tower is what it computes with."""

from threading import Thread

import pytest
import torch
from transformers import LlamaConfig

from fcot.reduce.tower import layers_of, look, queries_and_keys


@pytest.mark.parametrize("qk_norm", [False, True], ids=["plain", "qk norm"])
@torch.no_grad()
def test_attention_is_that_of_the_maps_and_features_are_what_the_projector_reads(make_model, batch, qk_norm):
    model = make_model(LlamaConfig, use_qk_norm=qk_norm)
    pixels = batch(2)[0]["pixel_values"]
    read = []
    handle = model.model.multi_modal_projector.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    model.model.get_image_features(pixels)
    handle.remove()
    tower = model.model.vision_tower
    tower.set_attn_implementation("eager")
    maps = tower(pixels, output_attentions=True).attentions
    tower.set_attn_implementation("sdpa")
    features, attention = look(model, pixels, ["first", "last", "behind"])
    assert torch.equal(features, read[0])
    for name, expected in (("first", maps[0]), ("last", maps[-1]), ("behind", maps[-1])):
        torch.testing.assert_close(attention[name].cls(), expected.mean(1)[:, 0, 1:], rtol=0, atol=1e-6)
        torch.testing.assert_close(attention[name].received(), expected.mean((1, 2))[:, 1:], rtol=0, atol=1e-6)


@torch.no_grad()
def test_nothing_stays_on_the_tower(make_model, batch):
    model = make_model(LlamaConfig)
    look(model, batch(0)[0]["pixel_values"], ["first", "last"])
    assert not any(module._forward_hooks for module in model.modules())


@torch.no_grad()
def test_what_another_thread_looks_at_meanwhile_is_not_taken_for_our_own(make_model, batch):
    model = make_model(LlamaConfig)
    first, other = (batch(row)[0]["pixel_values"] for row in (0, 4))
    tower = model.model.vision_tower
    with queries_and_keys({"last": layers_of(tower)[-1]}) as held:
        tower(first)
        ours = held["last"]["keys"]
        thread = Thread(target=lambda: tower(other))
        thread.start()
        thread.join()
        assert held["last"]["keys"] is ours
