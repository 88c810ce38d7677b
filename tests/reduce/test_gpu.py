"""Reducers on a CUDA device: they keep what they keep on a CPU and answer alike, by flash attention too."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from fcot.batch import Segments
from fcot.models import decoder
from fcot.models.reduced_prefix import PackedPass
from fcot.reduce import REDUCERS, BeforeReducer, InsideReducer, reduced, shorten
from fcot.reduce.inside import Row, Selection

pytestmark = pytest.mark.gpu

INSIDE = [name for name, kind in REDUCERS.items() if issubclass(kind, InsideReducer)]
BEFORE = [name for name, kind in REDUCERS.items() if issubclass(kind, BeforeReducer)]
MERGING = ("prumerge", "prumerge_plus", "tome", "visionzip")  # in bf16 a token may join another one than in fp32
ROWS = ((1,), (7,), (2, 3), (), (1,))
GRIDS = [[(1, 1)], [(2, 3)], [(1, 1), (1, 2)], [], [(1, 1)]]
KEYS = ["one", "several", "two", "text", "single"]
EXACT = {"rtol": 0, "atol": 1e-3}
ROUNDED = {"rtol": 0, "atol": 0.1}  # logits go up to 2.4, and a CPU's in bf16 are up to 0.03 off those in fp32


@pytest.fixture
def kernel(device: torch.device) -> str:
    """A flash attention that is installed, by transformers' name."""
    found = decoder.varlen_kernel(torch.zeros(1, device=device, dtype=torch.bfloat16))
    if found is None:
        pytest.skip("transformers finds no flash attention here")
    return found


def inside(name: str) -> Any:
    """A reducer that leaves a third of the tokens of a model of six layers."""
    return REDUCERS[name](keep=0.34, **({"image_pivots": 2, "text_pivots": 2} if name == "dart" else {}))


def moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A copy of a model, or of what it is given, on a device; floating point numbers of a type."""
    if isinstance(value, dict):
        return {name: moved(each, device, dtype) for name, each in value.items()}
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return deepcopy(value).to(device, dtype)


def recorded(reducer: InsideReducer) -> list[Selection]:
    """Return a list that what a reducer selects will be put on."""
    choose, selections = reducer.select, []

    def select(row: Row, observed: Tensor | None) -> Selection:
        selections.append(choose(row, observed))
        return selections[-1]

    reducer.select = select
    return selections


def replay(reducer: InsideReducer, selections: list[Selection]) -> list[float]:
    """Let a reducer select what is given, in turn, and return what share of each it would have selected itself."""
    choose, left, shares = reducer.select, list(selections), []

    def select(row: Row, observed: Tensor | None) -> Selection:
        own, given = choose(row, observed), left.pop(0)
        kept = given.kept.to(own.kept.device)
        shares.append(torch.isin(kept, own.kept).float().mean().item())
        merged = None if given.merged is None else given.merged.to(row.hidden)
        return Selection(kept, merged, None if given.like is None else given.like.to(kept.device))

    reducer.select = select
    return shares


def places(selections: list[Selection]) -> list[list[int]]:
    return [selection.kept.tolist() for selection in selections]


@pytest.mark.parametrize("method", INSIDE)
def test_between_layers_the_same_tokens_are_kept_as_on_a_cpu_and_answers_go_on_alike(llama, greedy, device, method):
    reducer, given = inside(method), llama.prompt().all()
    with reduced(llama.model, reducer) as engine:
        kept = recorded(engine.reducer)
        logits, tokens = greedy(llama.model, given)
    model, reducer = moved(llama.model, device, torch.float32), inside(method)
    with reduced(model, reducer):
        found = recorded(reducer)
        same, said = greedy(model, moved(given, device, torch.float32))
    assert places(found) == places(kept)
    assert said.cpu().equal(tokens)
    torch.testing.assert_close(same.cpu(), logits, **EXACT)

    model, reducer = moved(llama.model, device, torch.bfloat16), inside(method)
    with reduced(model, reducer):
        shares = replay(reducer, kept)
        rounded, _ = greedy(model, moved(given, device, torch.bfloat16), steps=1)
    assert sum(shares) / len(shares) > 0.9
    torch.testing.assert_close(rounded.cpu().float(), logits[:, :1], **ROUNDED)


@pytest.mark.parametrize("name", ["internvl-llama", "llava-next"])
@pytest.mark.parametrize("method", BEFORE)
def test_before_the_language_model_the_same_tokens_are_kept_as_on_a_cpu(family, greedy, device, method, name):
    (model, prompt), reducer = family(name), REDUCERS[method](keep=0.5, positions="original")
    given = prompt(rows=ROWS).all()
    short = shorten(model, given, reducer, GRIDS, KEYS)
    logits, tokens = greedy(model, short)
    there = moved(model, device, torch.float32)
    found = shorten(there, moved(given, device, torch.float32), reducer, GRIDS, KEYS)
    assert found["input_ids"].cpu().equal(short["input_ids"])
    assert found["position_ids"].cpu().equal(short["position_ids"])
    same, said = greedy(there, found)
    assert said.cpu().equal(tokens)
    torch.testing.assert_close(same.cpu(), logits, **EXACT)

    there = moved(model, device, torch.bfloat16)
    found = shorten(there, moved(given, device, torch.bfloat16), reducer, GRIDS, KEYS)
    assert found["input_ids"].cpu().equal(short["input_ids"])
    rounded = greedy(there, found, steps=1)[0].cpu().float()
    as_before = (found["position_ids"].cpu() == short["position_ids"]).all(1)
    assert sum(common(found["position_ids"], short["position_ids"])) > 0.8 * len(KEYS)
    close = {**ROUNDED, "atol": 0.5} if method in MERGING else ROUNDED
    torch.testing.assert_close(rounded[as_before], logits[as_before, :1], **close)


def common(found: Tensor, expected: Tensor) -> list[float]:
    """Return what share of the positions of each row are expected ones."""
    return [torch.isin(row, own).float().mean().item() for row, own in zip(found.cpu(), expected, strict=True)]


def read_packed(model: Any, given: dict[str, Tensor], reducer: InsideReducer) -> list[Tensor]:
    """Keys of each layer `[key heads, tokens, head width]` after rows have been read packed."""
    language, mask = model.model.language_model, given["attention_mask"].bool()
    decoder.allow_packing(language)
    lengths = tuple(mask.sum(1).tolist())
    ids = given["input_ids"][mask]
    visual = ids == model.config.image_token_id
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(ids).clone()
        embeddings[visual] = model.model.get_image_features(given["pixel_values"]).pooler_output.flatten(0, 1)
        positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths])[None]
        segments = Segments(lengths, (1,) * len(lengths))
        cache, _ = PackedPass(reducer, language, segments, visual, ids).run(embeddings[None], positions)
    return [layer.keys[0] for layer in cache.layers]


@pytest.mark.parametrize("method", INSIDE)
def test_flash_attention_reads_packed_prompts_as_sdpa_does(llama, device, kernel, monkeypatch, method):
    model, reducer = moved(llama.model, device, torch.bfloat16), inside(method)
    given = moved(llama.prompt().all(), device, torch.bfloat16)
    with monkeypatch.context() as without:
        without.setattr(decoder, "varlen_kernel", lambda query: None)
        kept = recorded(reducer)
        expected = read_packed(model, given, reducer)
    shares = replay(reducer := inside(method), kept)
    found = read_packed(model, given, reducer)
    assert sum(shares) / len(shares) > 0.9
    assert found[-1].shape[1] < found[0].shape[1]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("method", BEFORE)
def test_flash_attention_reads_shortened_prompts_as_sdpa_does(llama, greedy, device, kernel, method):
    model = moved(llama.model, device, torch.bfloat16)
    given = moved(llama.prompt(rows=ROWS).all(), device, torch.bfloat16)
    short = shorten(model, given, REDUCERS[method](keep=0.5), GRIDS, KEYS)
    expected, _ = greedy(model, short, steps=1)
    model.model.language_model.set_attn_implementation(kernel)
    torch.testing.assert_close(greedy(model, short, steps=1)[0], expected, **ROUNDED)


def test_a_model_of_flash_attention_has_it_again_afterwards(llama, greedy, device, kernel):
    model = moved(llama.model, device, torch.bfloat16)
    given = moved(llama.prompt().all(), device, torch.bfloat16)
    with reduced(model, "fastv", keep=0.34):
        expected, _ = greedy(model, given)
    model.model.language_model.set_attn_implementation(kernel)
    with reduced(model, "fastv", keep=0.34):
        assert greedy(model, given)[0].equal(expected)
    assert model.model.language_model.config._attn_implementation == kernel
