"""What a reducer cannot do is refused before a wrong answer is given, and the message says what to set."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from transformers import StaticCache

from fcot.errors import UserError
from fcot.models.transformers_api import CACHE
from fcot.reduce import Dart, Fastv, FastvRandom, Pyramiddrop, Sparsevlm, reduced
from fcot.reduce.attention import observed_attention


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"prefill_chunk_size": 8}, "Set prefill_chunk_size to None"),
        ({"cache_implementation": "static"}, "Set cache_implementation to None"),
        ({"use_cache": False}, "Set use_cache to True"),
        ({"output_attentions": True}, "Set output_attentions to False"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_of_generate_are_refused_wherever_they_stand(llama, monkeypatch, option, advice):
    model, given = llama.model, llama.prompt().all()
    with reduced(model, "fastv"):
        with pytest.raises(UserError, match=advice):
            model.generate(**given, max_new_tokens=2, **option)
        config = deepcopy(model.generation_config)
        config.update(**option)
        with pytest.raises(UserError, match=advice):
            model.generate(**given, generation_config=config, max_new_tokens=2)
        for name, value in option.items():
            monkeypatch.setattr(model.generation_config, name, value)
        with pytest.raises(UserError, match=advice):
            model.generate(given["input_ids"], max_new_tokens=2)


def test_forward_passes_that_stages_cannot_act_in_are_refused(llama):
    model, given = llama.model, llama.prompt().all()
    wide = given["input_ids"].shape[1]
    with reduced(model, "fastv"), torch.no_grad():
        with pytest.raises(UserError, match="Give a mask of two dimensions"):
            model(**{**given, "attention_mask": torch.ones(5, 1, wide, wide, dtype=torch.bool).tril()})
        with pytest.raises(UserError, match="give a DynamicCache"):
            model(**given, **{CACHE: StaticCache(model.config.text_config, max_cache_len=64)})
        with pytest.raises(UserError, match="Set output_attentions to False"):
            model(**given, output_attentions=True)
        with pytest.raises(UserError, match="Set `visual` of what"):
            model(inputs_embeds=torch.zeros(5, wide, 32), attention_mask=given["attention_mask"])


def test_gradient_checkpointing_is_refused(llama):
    model = deepcopy(llama.model).train()
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
    with reduced(model, "fastv"), pytest.raises(UserError, match="Turn gradient checkpointing off"):
        model(**llama.prompt().all())


def test_packed_rows_are_refused(llama):
    layer, states = llama.model.model.language_model.layers[0].self_attn, torch.zeros(1, 4, 3, 8)
    with pytest.raises(UserError, match="read padded ones"):
        observed_attention(layer, states, states, states, None, segments=object())


@pytest.mark.parametrize("other", [Fastv(layer=1), Sparsevlm(), Pyramiddrop()], ids=lambda other: type(other).__name__)
def test_a_cache_that_another_reducer_filled_is_refused(llama, other):
    model, given = llama.model, llama.prompt(rows=((3,),)).one(0)
    with torch.no_grad():
        with reduced(model, "fastv"):
            cache = model(**given)[CACHE]
        given["attention_mask"] = torch.ones(1, 2 * given["input_ids"].shape[1])
        with reduced(model, other), pytest.raises(UserError, match="filled by another reducer"):
            model(**given, **{CACHE: cache})


def test_windows_of_attention_are_refused(family):
    model = deepcopy(family("llava-next").model)
    model.model.language_model.config.sliding_window = 16
    with pytest.raises(UserError, match="Set sliding_window to null"), reduced(model, "fastv"):
        pass
    model = deepcopy(family("internvl-qwen2").model)
    model.model.language_model.config.layer_types = ["full_attention", "sliding_attention"] * 3
    with pytest.raises(UserError, match="Set sliding_window to null"), reduced(model, "fastv"):
        pass


def test_a_second_reducer_is_refused_even_where_two_models_share_a_language_model(llama, student):
    other = deepcopy(student.model)
    other.model.language_model = llama.model.model.language_model
    with reduced(llama.model, "fastv"), pytest.raises(UserError, match="first"), reduced(other, "dart"):
        pass
    with reduced(other, "dart"):  # the refused one has undone what it did
        pass


def test_models_of_another_form_are_refused(family):
    tower = family("llava").model.model.vision_tower
    with pytest.raises(UserError, match="Give an InternVL, LLaVA or LLaVA-NeXT"), reduced(tower, "fastv"):
        pass


def test_names_and_options_are_checked_before_the_model_is_touched(llama):
    model = llama.model
    for given, options, advice in (
        ("fastw", {}, "Did you mean 'fastv'"),
        ("fastv", {"kep": 0.5}, "Did you mean 'keep'"),
        (Fastv(), {"keep": 0.5}, "Give them to its constructor"),
        (object(), {}, "Give one of .*fastv"),
        ("fastv", {"layer": 6}, "Give layers in that range"),
        ("fastv", {"layer": 0}, "Give layers in that range"),
        ("pyramiddrop", {"layers": [3, 2]}, "lowest first"),
        ("pyramiddrop", {"layers": [2], "ratios": [0.5, 0.2]}, "Give one for each layer"),
        ("sparsevlm", {"layers": [2]}, "Give as many layers as counts"),
    ):
        with pytest.raises(UserError, match=advice), reduced(model, given, **options):
            pass
    assert model.model.language_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: Fastv(keep=0), "above 0 and up to 1"),
        (lambda: Fastv(keep=1.5), "above 0 and up to 1"),
        (lambda: Fastv(keep=True), "above 0 and up to 1"),
        (lambda: Fastv(equivalent="half"), "above 0 and up to 1"),
        (lambda: Fastv(keep=0.5, equivalent=0.5), "Give one of them"),
        (lambda: Fastv(score="first"), "Give 'last' or 'received'"),
        (lambda: Fastv(positions="new"), "Give 'original' or 'renumbered'"),
        (lambda: Fastv(scope="per_tile"), "Give 'per_row' or 'per_image'"),
        (lambda: FastvRandom(seed=-1), "a whole number of 0 or more"),
        (lambda: Dart(image_pivots=0), "a whole number of 1 or more"),
        (lambda: Pyramiddrop(ratios=[0.5, 0.6]), "Give shares of all visual tokens that fall"),
        (lambda: Pyramiddrop(ratios=[0.5], keep=0.5), "Give one of them"),
        (lambda: Sparsevlm(counts=[3, 0, 1]), "a whole number of 1 or more"),
        (lambda: Sparsevlm(counts=[3], equivalent=0.5), "Give one of them"),
    ],
)
def test_values_that_mean_nothing_are_refused(make, advice):
    with pytest.raises(UserError, match=advice):
        make()
