"""A reducer at work in a model: batches, turns, beams, threads, training; and the model as it was afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest
import torch

from fcot.models.transformers_api import CACHE
from fcot.reduce import REDUCERS, FastvRandom, InsideReducer, reduced

METHODS = tuple(name for name, kind in REDUCERS.items() if issubclass(kind, InsideReducer))
POSITIONS = ("original", "renumbered")
# stages of a model of six layers; a third of the tokens is left where a method says nothing else
OPTIONS: dict[str, dict[str, Any]] = {"dart": {"image_pivots": 2, "text_pivots": 2}}


def options(method: str, **more: Any) -> dict[str, Any]:
    return {"keep": 0.34, **OPTIONS.get(method, {}), **more}


def numbered(given: dict[str, Any]) -> dict[str, Any]:
    """With the positions that `generate` counts; a bare forward pass counts padding too."""
    return {**given, "position_ids": (given["attention_mask"].cumsum(1) - 1).clamp(min=0)}


@pytest.mark.parametrize("method", METHODS)
def test_with_nothing_to_drop_the_answer_is_the_same_to_the_last_bit(each_family, greedy, method):
    model, given = each_family.model, each_family.prompt().all()
    expected = greedy(model, given)
    with reduced(model, method, keep=1.0):
        found = greedy(model, given)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("method", METHODS)
def test_a_row_is_answered_in_a_batch_as_it_is_alone(each_family, greedy, method, positions):
    model, prompt = each_family.model, each_family.prompt()
    plain, _ = greedy(model, prompt.all())
    with reduced(model, method, **options(method, positions=positions)):
        logits, tokens = greedy(model, prompt.all())
        for i in range(len(prompt.ids)):
            alone, said = greedy(model, prompt.one(i))
            assert tokens[i].equal(said[0])
            torch.testing.assert_close(logits[i], alone[0], rtol=0, atol=1e-5)
    changed = (logits - plain).abs().amax((1, 2)) > 1e-3
    assert changed.tolist() == [bool(images) for images in ((1,), (7,), (2, 3), (), (1,))]


def test_sparsevlm_without_recycling_is_answered_in_a_batch_as_it_is_alone(llama, greedy):
    model, prompt = llama.model, llama.prompt()
    with reduced(model, "sparsevlm", recycle=False):
        logits, _ = greedy(model, prompt.all())
        for i in range(len(prompt.ids)):
            torch.testing.assert_close(logits[i], greedy(model, prompt.one(i))[0][0], rtol=0, atol=1e-5)
    with reduced(model, "sparsevlm", recycle=True):
        assert not greedy(model, prompt.all())[0][1].equal(logits[1])


@pytest.mark.parametrize("method", METHODS)
def test_each_layer_caches_what_is_left(llama, method):
    model, prompt = llama.model, llama.prompt()
    with reduced(model, method, **options(method)) as engine, torch.no_grad():
        cache = model(**prompt.one(1))[CACHE]
        length, reducer = prompt.one(1)["input_ids"].shape[1], engine.reducer
    expected, left = [], dict(zip(reducer.stages(6), reducer.counts(28, 6), strict=True))
    visual = 28
    for layer in range(6):
        visual = left.get(layer, visual)
        expected.append(length - 28 + visual)
    assert [cache.get_seq_length(layer) for layer in range(6)] == expected
    assert expected[-1] < length


@pytest.mark.parametrize("method", METHODS)
def test_a_second_turn_is_answered_in_a_batch_as_it_is_alone(llama, greedy, method):
    model, rows = llama.model, ((1,), (3,), ())
    first, second = llama.prompt(rows=rows), llama.prompt(rows=((2,), (), (1,)), seed=7)
    with reduced(model, method, **options(method)), torch.no_grad():

        def talk(turns: list[dict[str, Any]]) -> torch.Tensor:
            cache = model(**numbered(turns[0]))[CACHE]
            whole = {
                **turns[1],
                **{name: torch.cat([turn[name] for turn in turns], 1) for name in ("input_ids", "attention_mask")},
            }
            return greedy(model, {**whole, CACHE: cache})[0]

        together = talk([first.all(), second.all()])
        for i in range(len(rows)):
            torch.testing.assert_close(together[i], talk([first.one(i), second.one(i)])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_beams_of_a_batch_are_those_of_each_row(llama, method):
    model, prompt = llama.model, llama.prompt()
    search = {"num_beams": 3, "max_new_tokens": 5, "do_sample": False}
    with reduced(model, method, **options(method)):
        together = model.generate(**prompt.all(), **search)[:, -5:]
        for i in range(len(prompt.ids)):
            assert together[i].equal(model.generate(**prompt.one(i), **search)[0, -5:])


def test_a_row_that_ends_early_leaves_the_others_as_they_are(llama, greedy):
    model, prompt = llama.model, llama.prompt()
    with reduced(model, "fastv"):
        _, tokens = greedy(model, prompt.all())
        # a token that ends some rows, at different steps, and others not at all
        stop = next(token for token in tokens.unique().tolist() if 0 < (tokens == token).any(1).sum() < len(tokens))
        expected = tokens.clone()
        for row in expected:
            if stop in row:
                row[row.tolist().index(stop) + 1 :] = 0
        out = model.generate(**prompt.all(), max_new_tokens=6, do_sample=False, eos_token_id=stop, pad_token_id=0)
    assert not expected.equal(tokens)
    assert out[:, -6:].equal(expected)


def test_generation_goes_on_from_a_cropped_cache(llama, greedy):
    model, given = llama.model, llama.prompt().all()
    with reduced(model, "pyramiddrop"):
        out = model.generate(**given, max_new_tokens=6, do_sample=False, return_dict_in_generate=True)
        whole, cache = out.sequences[:, :-2], out[CACHE]
        cache.crop(-2)
        mask = torch.nn.functional.pad(given["attention_mask"], (0, 4), value=1)
        _, again = greedy(model, {"input_ids": whole, "attention_mask": mask, CACHE: cache}, steps=2)
    assert again.equal(out.sequences[:, -2:])


def test_threads_do_not_disturb_each_other(llama, greedy):
    model, prompts = llama.model, [llama.prompt(seed=seed).all() for seed in range(4)]
    with reduced(model, "sparsevlm"):
        expected = [greedy(model, given)[0] for given in prompts]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda given: greedy(model, given)[0], prompts * 2))
    for one, other in zip(found, expected * 2, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_over_a_batch_has_the_gradient_of_each_row(llama, method):
    model, prompt = llama.model, llama.prompt()
    weight = model.model.language_model.layers[0].mlp.up_proj.weight
    labels = prompt.ids.clone()
    labels[:, :-5] = -100

    def gradient(given: dict[str, Any], wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = model(**numbered(given), labels=wanted)
        assert out.logits.shape[:2] == given["input_ids"].shape
        return out.loss.detach(), torch.autograd.grad(out.loss, weight)[0]

    with reduced(model, method, **options(method)):
        loss, together = gradient(prompt.all(), labels)
        rows = [gradient(prompt.one(i), labels[i, prompt.mask[i].bool()][None]) for i in range(len(labels))]
    torch.testing.assert_close(loss, torch.stack([row[0] for row in rows]).mean(), rtol=0, atol=1e-5)
    torch.testing.assert_close(together, torch.stack([row[1] for row in rows]).mean(0), rtol=0, atol=1e-5)
    assert together.abs().max() > 1e-3


def test_padding_on_the_right_changes_no_logits(llama):
    model, prompt = llama.model, llama.prompt(rows=((3,), ()))
    given, row = prompt.all(), prompt.one(1)
    length, wide = row["input_ids"].shape[1], prompt.ids.shape[1]
    for name in ("input_ids", "attention_mask"):
        given[name] = given[name].clone()
        given[name][1] = torch.nn.functional.pad(row[name][0], (0, wide - length))
    with reduced(model, "fastv"), torch.no_grad():
        torch.testing.assert_close(model(**given).logits[1, :length], model(**row).logits[0], rtol=0, atol=1e-5)


def test_a_prompt_of_embeddings_needs_to_be_told_what_is_visual(llama, greedy):
    model, prompt = llama.model, llama.prompt()
    given = prompt.all()
    visual = given["input_ids"] == model.config.image_token_id
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(given["input_ids"]).clone()
        embeddings[visual] = model.model.get_image_features(given["pixel_values"]).pooler_output.flatten(0, 1)
    with reduced(model, "fastv") as engine:
        expected, _ = greedy(model, given)
        engine.visual = visual
        found = model.generate(
            inputs_embeds=embeddings,
            attention_mask=given["attention_mask"],
            max_new_tokens=6,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    assert torch.stack(found.logits, 1).equal(expected)


def test_the_model_is_as_it_was_after_an_error(llama, greedy):
    model, given = llama.model, llama.prompt().all()
    expected, before = greedy(model, given)[0], model.model.language_model.config._attn_implementation
    hooks = [(dict(part._forward_pre_hooks), dict(part._forward_hooks)) for part in model.modules()]
    with pytest.raises(RuntimeError, match="in between"), reduced(model, "pyramiddrop"):
        greedy(model, given)
        raise RuntimeError("in between")
    assert model.model.language_model.config._attn_implementation == before
    assert "generate" not in model.__dict__
    assert hooks == [(part._forward_pre_hooks, part._forward_hooks) for part in model.modules()]
    assert greedy(model, given)[0].equal(expected)


def test_a_draw_depends_on_seed_and_prompt_alone(llama):
    def drawn(seed: int, prompt: int) -> list[int]:
        with reduced(llama.model, FastvRandom(seed=seed)) as engine, torch.no_grad():
            choose, kept = engine.reducer.select, []

            def select(row, observed):
                kept.append(choose(row, observed))
                return kept[-1]

            engine.reducer.select = select
            llama.model(**llama.prompt(rows=((7,),), seed=prompt).one(0))
        return kept[0].kept.tolist()

    assert drawn(3, 1) == drawn(3, 1)
    assert drawn(3, 1) != drawn(4, 1)
    assert drawn(3, 1) != drawn(3, 2)  # other text around tokens in the same places


def test_each_image_keeps_its_share_where_images_are_ranked_apart(llama, monkeypatch):
    model, given = llama.model, llama.prompt(rows=((1, 4, 2),)).one(0)
    for method, expected in (("fastv", [2, 8, 4]), ("fastv_random", [2, 8, 4]), ("pyramiddrop", [2, 8, 4])):
        with reduced(model, method, keep=0.5, scope="per_image") as engine, torch.no_grad():
            choose, seen = engine.reducer.select, []

            def select(row, observed, choose=choose, seen=seen):
                selection = choose(row, observed)
                seen.append(row.image[selection.kept].bincount().tolist())
                return selection

            monkeypatch.setattr(engine.reducer, "select", select)
            model(**given)
        assert seen[-1] == expected


@pytest.mark.parametrize("method", METHODS)
def test_positions_are_those_of_the_prompt_or_counted_anew(llama, method):
    model, given, seen = llama.model, llama.prompt(rows=((12, 5),)).one(0), []

    def look(layer, args, kwargs):
        seen.append(kwargs["position_ids"][0].tolist())

    for positions in POSITIONS:
        with reduced(model, method, **options(method, positions=positions)), torch.no_grad():
            hook = model.model.language_model.layers[-1].register_forward_pre_hook(look, with_kwargs=True)
            model(**given)
            hook.remove()
    kept, anew = seen
    length = given["input_ids"].shape[1]
    assert anew == list(range(len(anew)))
    assert len(kept) == len(anew) < length
    assert kept == sorted(set(kept))  # a merged token has that of one that was dropped, in order
    text = (given["input_ids"][0] != model.config.image_token_id).nonzero()[:, 0].tolist()
    assert set(text) < set(kept) < set(range(length))


def test_merged_tokens_stand_where_they_should(llama):
    model, given, seen, entered = llama.model, llama.prompt(rows=((30,),)).one(0), [], []

    def look(layer, args):
        entered.append(args[0][0])

    for positions in POSITIONS:
        with reduced(model, "sparsevlm", counts=[30, 20, 10], layers=[1, 2, 3], positions=positions) as engine:
            choose = engine.reducer.select

            def select(row, observed, choose=choose, positions=positions):
                selection = choose(row, observed)
                seen.append((row, selection, selection.order(row, positions == "renumbered")))
                return selection

            engine.reducer.select = select
            hooks = [layer.register_forward_pre_hook(look) for layer in model.model.language_model.layers[1:4]]
            with torch.no_grad():
                model(**given)
            for hook in hooks:
                hook.remove()
    for number, (row, selection, order) in enumerate(seen):
        assert selection.merged is not None and len(selection.merged) > 0
        assert entered[number].equal(torch.cat([row.hidden, selection.merged])[order])
        length, renumbered = len(row.visual), number >= 3
        new = (order >= length).nonzero()[:, 0]
        if renumbered:  # behind the visual tokens that stay, before the text
            before = order[: new[0]]
            assert row.visual[before].sum() == len(selection.kept)
            assert new.tolist() == list(range(int(new[0]), int(new[0]) + len(new)))
            assert not row.visual[order[new[-1] + 1 :]].any()
        else:  # at the place of a dropped one
            places = torch.cat([torch.arange(length), selection.like])[order]
            assert places.equal(places.sort().values)
            assert not torch.isin(selection.like, selection.kept).any()


@pytest.mark.parametrize("method", METHODS)
def test_angles_that_grow_with_the_prompt_are_kept(family, greedy, method):
    # a model remembers the longest prompt it has read, and later ones are turned by that
    (model, prompt), again = family("dynamic rope"), deepcopy(family("dynamic rope").model)
    model, given = deepcopy(model), prompt(rows=((7,),)).one(0)
    assert given["input_ids"].shape[1] > model.config.text_config.max_position_embeddings
    expected, _ = greedy(model, given)
    with reduced(again, method, keep=1.0, positions="original"):
        assert greedy(again, given)[0].equal(expected)
    turned = []

    def look(layer, args, kwargs):
        turned.append((kwargs["position_ids"][0], kwargs["position_embeddings"][0][0]))

    hooks = [model.model.language_model.layers[0].register_forward_pre_hook(look, with_kwargs=True)]
    with reduced(model, method, **options(method, positions="original")), torch.no_grad():
        hooks.append(model.model.language_model.layers[-1].register_forward_pre_hook(look, with_kwargs=True))
        model(**given)
    for hook in hooks:
        hook.remove()
    (all_positions, all_cosines), (positions, cosines) = turned
    assert len(positions) < len(all_positions)
    assert cosines.equal(all_cosines[positions])


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_weights_are_reduced_too(llama, greedy, method):
    model, prompt = deepcopy(llama.model).bfloat16(), llama.prompt()
    with reduced(model, method, **options(method)):
        out = model.generate(
            **prompt.all(), max_new_tokens=3, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        assert torch.stack(out.logits).isfinite().all()
    assert out[CACHE].get_seq_length(5) < out[CACHE].get_seq_length(0)
    assert out[CACHE].layers[-1].keys.dtype == torch.bfloat16


def test_a_model_of_eager_attention_has_it_again_afterwards(llama, greedy):
    model, given = deepcopy(llama.model), llama.prompt().all()
    with reduced(llama.model, "fastv"):
        expected, _ = greedy(llama.model, given)
    model.set_attn_implementation("eager")
    with reduced(model, "fastv"):
        torch.testing.assert_close(greedy(model, given)[0], expected, rtol=0, atol=1e-5)
    assert model.model.language_model.config._attn_implementation == "eager"
