"""Reduced answers equal those of an oracle: full length, maps of attention, no cache, dropped tokens masked as keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fcot.reduce import reduced


def layer_logits(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits `[heads, length, length]` and values `[heads, length, head width]` of a layer's attention."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    shape = (1, normed.shape[1], -1, attention.head_dim)
    q, k, v = (getattr(attention, f"{name}_proj")(normed).view(shape) for name in "qkv")
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    q, k = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), *rotary)
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.transpose(1, 2).repeat_interleave(groups, 1)
    return q[0] @ k[0].transpose(1, 2) * attention.scaling, v[0]


def masked_pass(
    language: Any,
    embeddings: Tensor,
    dropped: dict[int, Tensor],
    choose: dict[int, Callable[[Tensor, Tensor], Tensor]] | None = None,
    own_layer: bool = False,
) -> Tensor:
    """Final hidden states of one sample `[1, length, width]`.

    Args:
        language: The language model.
        embeddings: `[1, length, width]`.
        dropped: By stage, which tokens are gone from there on `[tokens]`; filled where `choose` decides.
        choose: By stage, what is dropped given the mean map `[length, length]` and what is there `[length]`.
        own_layer: The map is the stage's own layer's, not that of the layer before.
    """
    length, hidden = embeddings.shape[1], embeddings
    rotary = language.rotary_emb(hidden, torch.arange(length)[None])
    there = torch.ones(length, dtype=torch.bool)
    mean: Tensor | None = None

    def probabilities(logits: Tensor) -> Tensor:
        seen = torch.ones(length, length, dtype=torch.bool).tril() & there
        seen |= torch.eye(length, dtype=torch.bool)  # a dropped query has to see something
        return logits.masked_fill(~seen, -torch.inf).softmax(-1)

    for number, layer in enumerate(language.layers):
        if choose and number in choose:
            if own_layer:
                mean = probabilities(layer_logits(layer, hidden, rotary)[0]).mean(0)
            dropped[number] = choose[number](mean, there)
        if number in dropped:
            there = there.clone()
            there[dropped[number]] = False
        logits, values = layer_logits(layer, hidden, rotary)
        p = probabilities(logits)
        mean = p.mean(0)
        hidden = hidden + layer.self_attn.o_proj((p @ values).transpose(0, 1).flatten(1))[None]
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return language.norm(hidden)


def embeddings_of(model: Any, given: dict[str, Any]) -> Tensor:
    """Embeddings of one sample, its visual tokens in their places `[1, length, width]`."""
    ids = given["input_ids"]
    embeddings = model.get_input_embeddings()(ids)
    pixels = {name: given[name] for name in ("pixel_values", "image_sizes") if name in given}
    if pixels:
        found = model.model.get_image_features(**pixels).pooler_output
        rows = torch.cat([each.reshape(-1, each.shape[-1]) for each in found])
        embeddings[ids == model.config.image_token_id] = rows
    return embeddings


@torch.no_grad()
def answer(
    model: Any,
    given: dict[str, Any],
    choose: dict[int, Callable[[Tensor, Tensor], Tensor]],
    *,
    own_layer: bool = False,
    steps: int = 6,
) -> tuple[Tensor, list[int]]:
    """Greedy answer to one prompt: logits `[steps, vocabulary]` and tokens."""
    embeddings, dropped = embeddings_of(model, given), {}
    logits, tokens = [], []
    for step in range(steps):
        hidden = masked_pass(model.model.language_model, embeddings, dropped, choose if step == 0 else None, own_layer)
        logits.append(model.lm_head(hidden[0, -1]))
        tokens.append(int(logits[-1].argmax()))
        embeddings = torch.cat([embeddings, model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], 1)
    return torch.stack(logits), tokens


def lowest(visual: Tensor, count: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Drop all visual tokens but those the last row looks at most, by sorting pairs in plain Python."""

    def choose(mean: Tensor, there: Tensor) -> Tensor:
        places = [place for place in visual.nonzero()[:, 0].tolist() if there[place]]
        ranked = sorted(places, key=lambda place: (-float(mean[-1, place]), place))
        return torch.tensor(sorted(ranked[count:]), dtype=torch.long)

    return choose


def test_fastv_answers_as_if_dropped_tokens_were_masked(each_family, greedy):
    model, prompt = each_family.model, each_family.prompt()
    for layer, keep in ((1, 0.5), (3, 0.25)):
        with reduced(model, "fastv", layer=layer, keep=keep):
            logits, tokens = greedy(model, prompt.all())
        for i in range(len(prompt.ids)):
            given = prompt.one(i)
            visual = given["input_ids"][0] == model.config.image_token_id
            count = max(1, round(int(visual.sum()) * keep))
            expected, said = answer(model, given, {layer: lowest(visual, count)})
            assert tokens[i].tolist() == said
            torch.testing.assert_close(logits[i], expected, rtol=0, atol=1e-5)


def test_fastv_of_received_attention_answers_as_if_dropped_tokens_were_masked(llama, greedy):
    model, prompt = llama.model, llama.prompt(rows=((80,), (2, 3)))  # more tokens than are scored at once
    with reduced(model, "fastv", layer=2, keep=0.5, score="received"):
        logits, tokens = greedy(model, prompt.all())
    for i in range(2):
        given = prompt.one(i)
        visual = given["input_ids"][0] == model.config.image_token_id
        choose = lowest(visual, int(visual.sum()) // 2)
        received = {2: lambda mean, there, choose=choose: choose(mean.sum(0)[None], there)}
        expected, said = answer(model, given, received)
        assert tokens[i].tolist() == said
        torch.testing.assert_close(logits[i], expected, rtol=0, atol=1e-5)
