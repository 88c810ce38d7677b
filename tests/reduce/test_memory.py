"""No reducer holds a map of attention, of all queries by all keys, of the language model or of the tower."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from fcot.bench.measure import peak_memory
from fcot.reduce import REDUCERS, BeforeReducer, InsideReducer, reduced, shorten

INSIDE = [name for name, kind in REDUCERS.items() if issubclass(kind, InsideReducer)]
BEFORE = [name for name, kind in REDUCERS.items() if issubclass(kind, BeforeReducer)]
LENGTH = {"cpu": 2048, "cuda": 16384}  # on a device, a map has to be larger than what libraries work in
TILES = {"cpu": 3, "cuda": 64}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """A CPU, and a CUDA device."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if request.param == "cuda" and (found is None or found.type != "cuda"):
        pytest.skip("needs a CUDA device")
    return torch.device(request.param)


@pytest.mark.parametrize("method", INSIDE)
def test_a_long_prompt_is_reduced_without_a_map_of_attention(family, device, method):
    model, length = family("internvl-llama").model, LENGTH[device.type]
    model = deepcopy(model).to(device, torch.bfloat16)
    heads, width = model.config.text_config.num_attention_heads, model.config.text_config.hidden_size
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, length, width, generator=draw).to(device, torch.bfloat16)
    visual = torch.zeros(1, length, dtype=torch.bool, device=device)
    visual[:, 10:-30] = True
    with reduced(model, method, keep=0.34) as engine, torch.no_grad():

        def read() -> None:
            engine.visual = visual
            model(inputs_embeds=embeddings, logits_to_keep=1)

        read()  # what libraries take for good is not counted
        assert peak_memory(read, device) < heads * length**2


@pytest.mark.parametrize("method", BEFORE)
def test_a_large_page_is_shortened_without_a_map_of_attention(family, device, method):
    (model, prompt), tiles = family("large tiles"), TILES[device.type]
    given = {
        name: each.to(device, torch.bfloat16 if each.is_floating_point() else None)
        for name, each in prompt(rows=((tiles,),)).all().items()
    }
    model, reducer = deepcopy(model).to(device, torch.bfloat16), REDUCERS[method](keep=0.5)
    heads, patches = model.config.vision_config.num_attention_heads, 4 * model.config.image_seq_length + 1

    def read() -> None:
        shorten(model, given, reducer, [[(1, tiles - 1)]], ["page"])

    read()
    assert peak_memory(read, device) < heads * tiles * patches**2
