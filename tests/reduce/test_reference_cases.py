"""Reducers equal recorded results: of the methods' own code where its licence allows.

FCOT_CASES names another folder of cases with the same schema; the checkpoint of its `end_to_end_NAME` files is the
folder NAME beside it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import rms_norm
from transformers import AutoModelForImageTextToText, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from fcot.convert.native import convert_to_native
from fcot.reduce import Dart, Fastv, Pyramiddrop, Sparsevlm, reduced
from fcot.reduce.dart import unlike
from fcot.reduce.divprune import divprune
from fcot.reduce.hired import block_credits, important, share_out, split_budget
from fcot.reduce.inside import Row
from fcot.reduce.prumerge import merge_neighbours, outliers
from fcot.reduce.prumerge_plus import with_samples
from fcot.reduce.seen import Attention, patches_of_tokens, top
from fcot.reduce.sparsevlm import recycled
from fcot.reduce.tome import match, merge
from fcot.reduce.visionzip import visionzip
from fcot.reduce.vispruner import vispruner

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("FCOT_CASES") or HERE / "fixtures")
END_TO_END = "end_to_end_"


def cases(*methods: str) -> list[Any]:
    """The cases of the files of some methods, each with its file's tensors by "in.name" and "out.name"."""
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        if any(file.stem.startswith(method) if method == END_TO_END else file.stem == method for method in methods):
            for case in json.loads(file.read_text(encoding="utf-8"))["cases"]:
                found.append(pytest.param(file, case, id=f"{file.stem}-{case['case']}"))
    return found


def tensors(file: Path, case: dict[str, Any]) -> dict[str, Tensor]:
    known, start = load_file(file.with_suffix(".safetensors")), f"{case['case']}."
    return {name.removeprefix(start): tensor for name, tensor in known.items() if name.startswith(start)}


def row(visual: Tensor, hidden: Tensor | None = None, embeddings: Tensor | None = None, **changes: Any) -> Row:
    """A row at its first stage of a model of 32 layers, from which tokens are visual `[length]`."""
    places, nothing = torch.arange(len(visual)), torch.zeros(len(visual), 1)
    hidden = nothing if hidden is None else hidden
    given = {
        "hidden": hidden,
        "positions": places,
        "visual": visual,
        "image": torch.zeros_like(places),
        "origin": places,
        "embeddings": hidden if embeddings is None else embeddings,
        "ids": None,
        "images": (int(visual.sum()),),
        "stage": 0,
        "num_layers": 32,
        "norm": lambda states: states,
    }
    return Row(**{**given, **changes})


def span(length: int, start: int, count: int) -> Tensor:
    """Where `count` visual tokens from `start` on are, of `length`."""
    places = torch.arange(length)
    return (places >= start) & (places < start + count)


def test_there_are_cases():
    assert cases("fastv", "pyramiddrop", "sparsevlm", "dart", END_TO_END), f"no cases in {FOLDER}"


@pytest.mark.parametrize(("file", "case"), cases("fastv"))
def test_fastv(file, case):
    known, reducer = tensors(file, case), Fastv(keep=1 - case["params"]["R"])
    for i, real in enumerate(known["in.real"]):
        here = row(known["in.visual"][i, real])
        query, key = known["in.q"][i, :, real], known["in.k"][i, :, real]
        score = reducer.observe(here, query, key, query.shape[-1] ** -0.5)
        if not here.visual.any():
            assert known[f"out.kept_row{i}"].equal(real.nonzero()[:, 0])
            continue
        torch.testing.assert_close(score, known["out.score"][i, real].float(), rtol=0, atol=1e-6)
        kept = reducer.select(here, score).order(here, False)
        assert real.nonzero()[:, 0][kept].equal(known[f"out.kept_row{i}"])
        assert int(here.visual[kept].sum()) == case["params"]["kept_visual"][i]


@pytest.mark.parametrize(("file", "case"), cases("pyramiddrop"))
def test_pyramiddrop(file, case):
    known, params = tensors(file, case), case["params"]
    ratios, stage, heads = params["ratios"][1:], params["stage"], params["heads"]
    reducer = Pyramiddrop(ratios=ratios, layers=range(1, 1 + len(ratios)))
    width = known["in.features"].shape[2]
    config = LlamaConfig(
        hidden_size=width,
        num_attention_heads=heads,
        rope_parameters={"rope_type": "default", "rope_theta": params["rope_theta"]},
    )
    for i, (prefix, total, _) in enumerate(params["rows"]):
        hidden = known["in.features"][i, known["in.mask"][i].bool()]
        visual = span(len(hidden), prefix, params["visual_now"][i])
        here = row(visual, hidden, images=(total,), stage=stage)
        normed = rms_norm(hidden, (width,), known["in.norm_weight"], params["eps"])
        query, key = (
            (normed @ known[f"in.{name}_weight"].T).unflatten(-1, (heads, -1)).transpose(0, 1)[None] for name in "qk"
        )
        query, key = apply_rotary_pos_emb(query, key, *LlamaRotaryEmbedding(config)(hidden, here.positions[None]))
        score = reducer.observe(here, query[0], key[0], (width // heads) ** -0.5)
        order = reducer.select(here, score).order(here, True)
        assert order.equal(known[f"out.kept_row{i}"])
        assert int(visual[order].sum()) == params["keep"][i]
        torch.testing.assert_close(hidden[order], known["out.out"][i, : len(order)])


@pytest.mark.parametrize(("file", "case"), cases("sparsevlm"))
def test_sparsevlm(file, case):
    known, params = tensors(file, case), case["params"]
    hidden, rows, prefix, count = (
        known["in.hidden"][0],
        known["in.attention_text_rows"][0],
        *(params[name] for name in ("prefix", "visual")),
    )
    length = len(hidden)
    here = row(span(length, prefix, count), hidden, known["in.embeddings"][0])
    reducer = Sparsevlm(counts=[params["keep"]], layers=[3])
    # queries and keys that attend as recorded: keys apart from each other, queries the logarithms
    query = torch.zeros(rows.shape[0], length, length)
    query[:, prefix + count :] = rows.clamp(min=1e-30).log()
    score = reducer.observe(here, query, torch.eye(length)[None], 1.0)
    assert here.memory["raters"].equal(known["out.raters"])
    torch.testing.assert_close(score[here.visual], known["out.relation"][0], rtol=1e-5, atol=1e-7)
    selection = reducer.select(here, score)
    assert selection.kept.equal(known["out.kept"])
    assert recycled(count - params["keep"]) == (params["recycled"], params["clusters"])
    torch.testing.assert_close(selection.merged, known["out.merged"][0])
    whole = torch.cat([hidden, selection.merged])[selection.order(here, True)]
    torch.testing.assert_close(whole, known["out.sequence"][0])


@pytest.mark.parametrize(("file", "case"), cases("dart"))
def test_dart(file, case):
    known, params = tensors(file, case), case["params"]
    state, key = known["in.state"][0], known["in.keys"][0]
    here = row(span(len(state), params["prefix"], params["visual"]), state)
    reducer = Dart(image_pivots=params["image_pivots"], text_pivots=params["text_pivots"])
    image, text = reducer.pivots(here, reducer.observe(here, key, key, 1.0), params["kept"])
    assert sorted(image.tolist()) == sorted(known["out.image_pivots"].tolist())
    assert sorted(text.tolist()) == sorted(known["out.text_pivots"].tolist())
    kept = unlike(state, here.places(), image, known["out.pivot_order"], params["kept"])
    assert kept.equal(known["out.kept"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory):
    """Return a function that converts the checkpoint of a file and loads it, with the inputs of its cases."""
    known: dict[str, Any] = {}

    def load(file: Path, image_token_id: int) -> tuple[Any, dict[str, Tensor]]:
        name = file.stem.removeprefix(END_TO_END)
        beside = FOLDER.parent if os.environ.get("FCOT_CASES") else HERE.parent / "convert"
        if name not in known:
            folder = tmp_path_factory.mktemp("native") / name
            convert_to_native(beside / name, folder, image_token_id)
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
            expected = load_file(beside / name / "expected.safetensors")
            known[name] = model, {key: expected[key] for key in ("input_ids", "pixel_values")}
        return known[name]

    return load


def reducer_of(case: dict[str, Any]) -> Fastv | Pyramiddrop:
    layers, keep = case["prune_input_of_layer"], case["keep"]
    if case["method"] == "pyramiddrop":
        return Pyramiddrop(layers=layers, ratios=keep, positions=case["positions"])
    (layer,), (share,) = layers, keep
    return Fastv(layer=layer, keep=share, positions=case["positions"])


@pytest.mark.parametrize(("file", "case"), cases(END_TO_END))
def test_answers_of_a_checkpoint(file, case, checkpoint, greedy, monkeypatch):
    known, (model, given) = tensors(file, case), checkpoint(file, case["image_token_id"])
    reducer, seen = reducer_of(case), {}
    choose = reducer.select

    def select(here, observed):
        selection = choose(here, observed)
        seen[case["prune_input_of_layer"][here.stage]] = observed, here.origin[selection.kept]
        return selection

    monkeypatch.setattr(reducer, "select", select)
    with reduced(model, reducer):
        logits, tokens = greedy(model, given, len(known["out.tokens"]), eos_token_id=None)
    assert tokens[0].equal(known["out.tokens"])
    torch.testing.assert_close(logits[0], known["out.logits"], rtol=0, atol=2e-5)
    assert seen
    for layer, (observed, kept) in seen.items():
        assert kept.equal(known[f"out.kept_visual_from_layer{layer}"])
        if layer == min(seen):
            torch.testing.assert_close(observed, known[f"out.score_for_layer{layer}"].float(), rtol=0, atol=1e-6)


def cases_before(method):
    file = FOLDER / f"{method}.json"
    if not file.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(f"{FOLDER} has no cases of {method}"))]
    tensors = load_file(file.with_suffix(".safetensors"))
    listed = []
    for case in json.loads(file.read_text(encoding="utf-8"))["cases"]:
        start = f"{case['case']}."
        own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        given = {name.removeprefix("in."): tensor for name, tensor in own.items() if name.startswith("in.")}
        expected = {name.removeprefix("out."): tensor for name, tensor in own.items() if name.startswith("out.")}
        listed.append(pytest.param((case["params"], given, expected), id=f"{method}-{case['case']}"))
    return listed


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", cases_before("visionzip"))
def test_visionzip(case):
    params, given, expected = case
    for tile, hidden in enumerate(given["hidden"]):
        scores = given["cls_attention"][tile].sum(0)[1:]
        rows, places = visionzip(
            hidden[1:],
            scores,
            given["metric"][tile][1:],
            dominant=params["dominant"],
            contextual=params["contextual"],
        )
        dominant = places[: params["dominant"]] + 1  # their place 0 is CLS, which LLaVA reads too
        assert [0, *dominant.tolist()] == expected["kept"][tile].tolist()
        close(torch.cat([hidden[:1], rows]), expected["tokens"][tile])


@pytest.mark.parametrize("case", [*cases_before("prumerge"), *cases_before("prumerge_plus")])
def test_prumerge(case):
    params, given, expected = case
    for image, features in enumerate(given["features"]):
        attention = Attention(given["cls_query"][image][None], given["keys"][image][None], heads=1)
        scores = attention.cls()[0]
        close(scores, expected["cls_attention"][image])
        count = outliers(scores) if params["adaptive"] else int(len(scores) * params["ratio"])
        chosen = with_samples(scores, count) if params["plus"] else top(scores, count)
        assert chosen.tolist() == expected["kept_in_reference_order"][image].tolist()
        close(merge_neighbours(features, scores, attention.mean_keys()[0], chosen), expected["tokens"][image])


@pytest.mark.parametrize("case", cases_before("vispruner"))
def test_vispruner(case):
    params, given, expected = case
    for tile, features in enumerate(given["features"]):
        kept = vispruner(
            features,
            given["cls_attention"][tile].mean(0),
            important=params["important"],
            diverse=params["keep"] - params["important"],
        )
        assert kept.tolist() == expected["mask"][tile].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("case", cases_before("tome"))
def test_tome(case):
    params, given, expected = case
    sources, targets = match(given["metric"], params["r"], protected=int(params["class_token"]))
    assert len(sources) == params["r_effective"]
    pairs = set(zip(expected["sources"].tolist(), expected["targets"].tolist(), strict=True))
    assert set(zip(sources.tolist(), targets.tolist(), strict=True)) == pairs
    (merged,), sizes, left = merge((given["x"],), given["size"].to(given["x"].dtype), sources, targets)
    assert left.tolist() == expected["index"].tolist()
    close(sizes, expected["merged_size"])
    close(merged, expected["merged"])


@pytest.mark.parametrize("case", cases_before("hired"))
def test_hired(case):
    params, given, expected = case
    rows, columns = params["grid_rows_cols"]
    tiles, tokens = params["tiles"], params["tokens"]
    whole, rest = split_budget(tiles * tokens, tokens, params["budget"], params["alpha"])
    assert (whole, rest) == (params["whole_image"], params["sub_images"])
    mask = important(given["first_layer_cls"][0].sum(0)[1:], params["alpha"])
    credits = block_credits(mask, rows, columns)
    assert credits == expected["quadrant_counts"].tolist()
    assert share_out(credits, rest) == expected["quadrant_budgets"].tolist()
    # the reference cuts the raster into stripes of consecutive patches where tiles are blocks: its own mask has those
    stripes = mask.view(rows * columns, -1).sum(1).tolist()
    budgets = [whole, *share_out(stripes, rest)]
    assert budgets == expected["kept_per_tile"].tolist()
    for tile, budget in enumerate(budgets):
        kept = top(given["last_layer_cls"][tile].sum(0)[1:], budget).sort().values
        assert kept.tolist() == expected["mask"][tile].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("case", cases_before("divprune"))
def test_divprune(case):
    params, given, expected = case
    order = divprune(given["features"], params["keep"])
    assert order.tolist() == expected["order"].tolist()
    assert order.sort().values.tolist() == expected["kept"].tolist()


@pytest.mark.parametrize("case", cases_before("unshuffle_scores"))
def test_scores_of_the_tokens_of_a_tile(case):
    params, given, expected = case
    patches = patches_of_tokens(params["side"])
    assert patches.tolist() == expected["patches_of_token"].tolist()
    scores = given["cls_probabilities"].mean(1)[:, 1:]
    close(scores[:, patches].sum(2), expected["token_scores"])
