"""Reduced answers equal an oracle's: full length, maps of attention, no cache; dropped tokens are masked as keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity as cosine
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fcot.models.transformers_api import CACHE
from fcot.reduce import REDUCERS, reduced


class Seen(NamedTuple):
    """What a choice may look at.

    Attributes:
        mean: The map of attention, mean over heads `[length, length]`.
        keys: Keys of the layer before `[key heads, length, head width]`.
        there: Which tokens have not been dropped yet `[length]`.
        hidden: What the stage's layer is given, after the final norm `[length, width]`.
        embeddings: What the first layer was given `[length, width]`.
    """

    mean: Tensor
    keys: Tensor
    there: Tensor
    hidden: Tensor
    embeddings: Tensor


Choice = Callable[[Seen], Tensor]  # which tokens go


def layer_logits(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `[heads, length, length]`, values `[heads, length, head width]` and keys of a layer's attention."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    shape = (1, normed.shape[1], -1, attention.head_dim)
    q, k, v = (getattr(attention, f"{name}_proj")(normed).view(shape) for name in "qkv")
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    q, k = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), *rotary)
    groups = q.shape[1] // k.shape[1]
    keys, v = k.repeat_interleave(groups, 1), v.transpose(1, 2).repeat_interleave(groups, 1)
    return q[0] @ keys[0].transpose(1, 2) * attention.scaling, v[0], k[0]


class Oracle:
    """Reads one sample's turns and answers them; from its stage on, a dropped token is masked as a key.

    Args:
        model: The model.
        own_layer: A stage is chosen by its own layer's map, not by that of the layer before.
        renumbered: From a stage on, positions count what is there.
    """

    def __init__(self, model: Any, *, own_layer: bool = False, renumbered: bool = False) -> None:
        self.model, self.own_layer, self.renumbered = model, own_layer, renumbered
        self.embeddings = torch.zeros(1, 0, model.config.text_config.hidden_size)
        self.positions = torch.zeros(1, 0, dtype=torch.long)
        self.dropped: dict[int, Tensor] = {}

    def read(self, given: dict[str, Any], positions: Tensor | None = None) -> Tensor:
        """Go on with ids and pixels; return which of all tokens are visual ones of these `[length]`."""
        ids, past = given["input_ids"], self.positions.shape[1]
        new = self.model.get_input_embeddings()(ids).clone()
        pixels = {name: given[name] for name in ("pixel_values", "image_sizes") if name in given}
        visual = ids == self.model.config.image_token_id
        if pixels:
            found = self.model.model.get_image_features(**pixels).pooler_output
            new[visual] = torch.cat([each.reshape(-1, each.shape[-1]) for each in found])
        self._append(new, positions)
        return torch.cat([torch.zeros(past, dtype=torch.bool), visual[0]])

    def _append(self, new: Tensor, positions: Tensor | None = None) -> None:
        start = self.positions[0, -1] + 1 if self.positions.shape[1] else 0
        positions = start + torch.arange(new.shape[1])[None] if positions is None else positions
        self.embeddings = torch.cat([self.embeddings, new], 1)
        self.positions = torch.cat([self.positions, positions], 1)

    def hidden(self, choices: dict[int, Choice]) -> Tensor:
        """Final hidden states `[1, length, width]`; what `choices` drop by stage stays dropped."""
        language, hidden, length = self.model.model.language_model, self.embeddings, self.embeddings.shape[1]
        rotary, there = language.rotary_emb(hidden, self.positions), torch.ones(length, dtype=torch.bool)
        mean = keys = torch.empty(0)

        def probabilities(logits: Tensor) -> Tensor:
            seen = torch.ones(length, length, dtype=torch.bool).tril() & there
            seen |= torch.eye(length, dtype=torch.bool)  # a dropped query has to see something
            return logits.masked_fill(~seen, -torch.inf).softmax(-1)

        for number, layer in enumerate(language.layers):
            for drop in (False, True):
                if drop and number in choices:
                    if self.own_layer:
                        mean = probabilities(layer_logits(layer, hidden, rotary)[0]).mean(0)
                    old = self.dropped.get(number, torch.zeros(0, dtype=torch.long))
                    seen = Seen(mean, keys, there, language.norm(hidden)[0], self.embeddings[0])
                    self.dropped[number] = torch.cat([old, choices[number](seen)])
                if number in self.dropped:
                    there = there.clone()
                    there[self.dropped[number]] = False
                    if self.renumbered:
                        rotary = language.rotary_emb(hidden, (there.cumsum(0) - 1)[None])
            logits, values, keys = layer_logits(layer, hidden, rotary)
            p = probabilities(logits)
            mean = p.mean(0)
            hidden = hidden + layer.self_attn.o_proj((p @ values).transpose(0, 1).flatten(1))[None]
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return language.norm(hidden)

    @torch.no_grad()
    def answer(self, choices: dict[int, Choice], steps: int = 6) -> tuple[Tensor, list[int]]:
        """Logits `[steps, vocabulary]` and tokens of a greedy answer to what has been read."""
        logits, tokens = [], []
        for step in range(steps):
            logits.append(self.model.lm_head(self.hidden({} if step else choices)[0, -1]))
            tokens.append(int(logits[-1].argmax()))
            self._append(self.model.get_input_embeddings()(torch.tensor([tokens[-1:]])))
        return torch.stack(logits), tokens


def lowest(visual: Tensor, count: int, scores: list[Tensor] | None = None) -> Choice:
    """Drop all visual tokens but those the last row looks at most, by sorting pairs in plain Python.

    Args:
        visual: Which tokens may go `[length]`.
        count: How many stay.
        scores: Where to put what the last row looks at of these.
    """

    def choose(seen: Seen) -> Tensor:
        if scores is not None:
            scores.append(seen.mean[-1, visual & seen.there])
        places = [place for place in visual.nonzero()[:, 0].tolist() if seen.there[place]]
        ranked = sorted(places, key=lambda place: (-float(seen.mean[-1, place]), place))
        return torch.tensor(sorted(ranked[count:]), dtype=torch.long)

    return choose


def fastv(visual: Tensor, layer: int, keep: float) -> dict[int, Choice]:
    return {layer: lowest(visual, max(1, round(int(visual.sum()) * keep)))}


def pyramiddrop(visual: Tensor, shares: dict[int, float]) -> dict[int, Choice]:
    return {layer: lowest(visual, max(1, int(int(visual.sum()) * share))) for layer, share in shares.items()}


def assert_same(logits: Tensor, tokens: Tensor, expected: tuple[Tensor, list[int]]) -> None:
    assert tokens.tolist() == expected[1]
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["original", "renumbered"])
@pytest.mark.parametrize(("layer", "keep"), [(1, 0.5), (3, 0.25)])
def test_fastv_answers_as_if_dropped_tokens_were_masked(each_family, greedy, layer, keep, positions):
    model, prompt = each_family.model, each_family.prompt()
    with reduced(model, "fastv", layer=layer, keep=keep, positions=positions):
        logits, tokens = greedy(model, prompt.all())
    for i in range(len(prompt.ids)):
        oracle = Oracle(model, renumbered=positions == "renumbered")
        visual = oracle.read(prompt.one(i))
        assert_same(logits[i], tokens[i], oracle.answer(fastv(visual, layer, keep)))


def test_fastv_by_received_attention_sums_the_rows_of_all_queries(llama, greedy):
    model, prompt = llama.model, llama.prompt(rows=((80,), (2, 3)))  # more queries than are held at once
    with reduced(model, "fastv", layer=2, keep=0.5, score="received"):
        logits, tokens = greedy(model, prompt.all())
    for i in range(2):
        oracle = Oracle(model)
        (choose,) = fastv(oracle.read(prompt.one(i)), 2, 0.5).values()
        received = {2: lambda seen, choose=choose: choose(seen._replace(mean=seen.mean.sum(0)[None]))}
        assert_same(logits[i], tokens[i], oracle.answer(received))


@pytest.mark.parametrize("positions", ["original", "renumbered"])
def test_pyramiddrop_answers_as_if_dropped_tokens_were_masked(each_family, greedy, positions):
    model, prompt = each_family.model, each_family.prompt()
    shares = {1: 0.6, 3: 0.4, 4: 0.2}
    with reduced(model, "pyramiddrop", layers=[*shares], ratios=[*shares.values()], positions=positions):
        logits, tokens = greedy(model, prompt.all())
    for i in range(len(prompt.ids)):
        oracle = Oracle(model, own_layer=True, renumbered=positions == "renumbered")
        visual = oracle.read(prompt.one(i))
        assert_same(logits[i], tokens[i], oracle.answer(pyramiddrop(visual, shares)))


@pytest.mark.parametrize("positions", ["original", "renumbered"])
@pytest.mark.parametrize("method", ["fastv", "pyramiddrop"])
@pytest.mark.parametrize("images", [(), (2,)], ids=["of text", "with another image"])
def test_a_second_turn_reads_what_the_first_left(llama, greedy, monkeypatch, method, positions, images):
    model, shares = llama.model, {2: 0.5, 4: 0.25}
    first, second = llama.prompt(rows=((3,),)).one(0), llama.prompt(rows=(images,), seed=5).one(0)
    options = {"layer": 2} if method == "fastv" else {"layers": [*shares], "ratios": [*shares.values()]}
    reducer, scores = REDUCERS[method](positions=positions, **options), []
    choose = reducer.select
    monkeypatch.setattr(
        reducer, "select", lambda row, observed: (scores.append(observed[row.visual]), choose(row, observed))[1]
    )
    with reduced(model, reducer):
        out = model.generate(**first, max_new_tokens=4, do_sample=False, return_dict_in_generate=True)
        second["input_ids"] = torch.cat([out.sequences, second["input_ids"]], 1)
        second["attention_mask"] = torch.ones_like(second["input_ids"])
        logits, tokens = greedy(model, {**second, CACHE: out[CACHE]})
    oracle = Oracle(model, own_layer=method == "pyramiddrop", renumbered=positions == "renumbered")
    expected: list[Tensor] = []

    def choices(visual: Tensor) -> dict[int, Choice]:
        count = int(visual.sum())
        kept = {2: round(count * 0.5)} if method == "fastv" else {at: int(count * part) for at, part in shares.items()}
        return {layer: lowest(visual, left, expected) for layer, left in kept.items()} if count else {}

    oracle.answer(choices(oracle.read(first)), steps=4)
    new = second["input_ids"][:, out.sequences.shape[1] :]
    visual = oracle.read({**second, "input_ids": new})
    assert_same(logits[0], tokens[0], oracle.answer(choices(visual)))
    for found, wanted in zip(scores, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("positions", ["original", "renumbered"])
@pytest.mark.parametrize("method", ["fastv", "pyramiddrop"])
def test_a_student_that_keeps_positions_keeps_them_as_tokens_are_dropped(student, greedy, method, positions):
    model, prompt, shares = student.model, student.prompt(), {2: 0.5, 4: 0.25}
    options = {"layer": 2} if method == "fastv" else {"layers": [*shares], "ratios": [*shares.values()]}
    with reduced(model, method, positions=positions, **options):
        logits, tokens = greedy(model, prompt.all())
    for i in range(len(prompt.ids)):
        given = prompt.one(i)
        where = model.positions(given["input_ids"])
        oracle = Oracle(model, own_layer=method == "pyramiddrop", renumbered=positions == "renumbered")
        visual = oracle.read(given, where)
        # a visual token takes two positions
        assert int(where[0, -1]) == len(visual) - 1 + int(visual.sum())
        choices = fastv(visual, 2, 0.5) if method == "fastv" else pyramiddrop(visual, shares)
        assert_same(logits[i], tokens[i], oracle.answer(choices if visual.any() else {}))


def rated(visual: Tensor, count: int) -> Choice:
    """Drop all visual tokens but those that SparseVLM's raters look at most."""
    places = visual.nonzero()[:, 0].tolist()
    text = range(places[-1] + 1, len(visual))

    def choose(seen: Seen) -> Tensor:
        like = dict.fromkeys(text, 0.0)
        for place in places:
            products = [float(seen.embeddings[place] @ seen.embeddings[other]) for other in text]
            total = sum(math.exp(each) for each in products)
            for other, product in zip(text, products, strict=True):
                like[other] += math.exp(product) / total
        raters = [other for other in text if like[other] > sum(like.values()) / len(like)]
        score = {place: sum(float(seen.mean[rater, place]) for rater in raters) for place in places}
        ranked = sorted((place for place in places if seen.there[place]), key=lambda place: -score[place])
        return torch.tensor(sorted(ranked[count:]), dtype=torch.long)

    return choose


@pytest.mark.parametrize("positions", ["original", "renumbered"])
def test_sparsevlm_without_recycling_answers_as_if_dropped_tokens_were_masked(each_family, greedy, positions):
    model, prompt = each_family.model, each_family.prompt()
    best = {1: 9, 3: 5, 4: 2}
    options = {"layers": [*best], "counts": [*best.values()], "recycle": False, "positions": positions}
    with reduced(model, "sparsevlm", **options):
        logits, tokens = greedy(model, prompt.all())
    for i in range(len(prompt.ids)):
        oracle, choices, left = Oracle(model, renumbered=positions == "renumbered"), {}, 0
        visual = oracle.read(prompt.one(i))
        if visual.any():
            left = int(visual.sum())
            for layer, count in best.items():
                left = min(count, max(left - 1, 1))
                choices[layer] = rated(visual, left)
        assert_same(logits[i], tokens[i], oracle.answer(choices))


def unlike(visual: Tensor, count: int, pivots: int) -> Choice:
    """Drop all visual tokens but DART's pivots and those unlike them."""
    places = visual.nonzero()[:, 0].tolist()

    def choose(seen: Seen) -> Tensor:
        size = seen.keys.abs().sum((0, 2)).tolist()
        image = sorted(places, key=lambda place: -size[place])[: min(pivots, count)]
        text = sorted(range(places[-1] + 1, len(visual)), key=lambda place: -size[place])[:pivots]
        kept, turns, budget = [*image], [*image, *text], count - len(image)
        for turn, pivot in enumerate(turns):
            share = budget // len(turns) + (turn < budget % len(turns))
            free = [place for place in places if place not in kept]
            kept += sorted(free, key=lambda place: float(cosine(seen.hidden[pivot], seen.hidden[place], 0)))[:share]
        return torch.tensor([place for place in places if place not in kept], dtype=torch.long)

    return choose


@pytest.mark.parametrize("positions", ["original", "renumbered"])
def test_dart_answers_as_if_dropped_tokens_were_masked(each_family, greedy, positions):
    model, prompt = each_family.model, each_family.prompt()
    with reduced(model, "dart", layer=3, keep=0.4, image_pivots=2, text_pivots=2, positions=positions):
        logits, tokens = greedy(model, prompt.all())
    for i in range(len(prompt.ids)):
        oracle = Oracle(model, renumbered=positions == "renumbered")
        visual = oracle.read(prompt.one(i))
        choices = {3: unlike(visual, max(1, round(int(visual.sum()) * 0.4)), 2)} if visual.any() else {}
        assert_same(logits[i], tokens[i], oracle.answer(choices))
