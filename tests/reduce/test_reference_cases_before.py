"""Reducers before the language model equal recorded results: of the methods' own code where its licence allows.

FCOT_CASES names another folder of cases with the same schema.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fcot.reduce.divprune import most_diverse
from fcot.reduce.hired import region_counts, tile_budgets
from fcot.reduce.prumerge import best, outliers, samples_between, with_neighbours
from fcot.reduce.tome import matching, merge
from fcot.reduce.tower import blocks, patch_scores
from fcot.reduce.visionzip import dominant_and_contextual
from fcot.reduce.vispruner import important_and_diverse

FOLDER = Path(os.environ.get("FCOT_CASES") or Path(__file__).parent / "fixtures")


def cases(method):
    file = FOLDER / f"{method}.json"
    found = json.loads(file.read_text(encoding="utf-8"))["cases"] if file.is_file() else []
    return [pytest.param(method, case, id=case["case"]) for case in found]


def tensors(method, case):
    start = f"{case['case']}."
    known = load_file(FOLDER / f"{method}.safetensors")
    return {name.removeprefix(start): tensor for name, tensor in known.items() if name.startswith(start)}


def same(found, expected):
    assert torch.allclose(found.float(), expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("method", "case"), cases("visionzip"))
def test_visionzip(method, case):
    data, params = tensors(method, case), case["params"]
    for i, hidden in enumerate(data["in.hidden"]):
        scores = data["in.cls_attention"][i, :, 1:].sum(0)
        kept, _, merged = dominant_and_contextual(
            scores, hidden[1:], data["in.metric"][i, 1:], params["dominant"], params["contextual"]
        )
        assert [0, *(kept + 1).tolist()] == data["out.kept"][i].tolist()  # the class token stays there, and comes first
        same(torch.cat([hidden[:1], hidden[1:][kept], merged]), data["out.tokens"][i])


@pytest.mark.parametrize(("method", "case"), [*cases("prumerge"), *cases("prumerge_plus")])
def test_prumerge(method, case):
    data, params = tensors(method, case), case["params"]
    for i, features in enumerate(data["in.features"]):
        keys, query = data["in.keys"][i], data["in.cls_query"][i]
        whole = torch.cat([query, keys[1:]])[None, None]  # of the queries, the class token's alone is used
        attention = patch_scores(whole, keys[None, None], "cls")[0, 0]
        same(attention, data["out.cls_attention"][i])
        kept = outliers(attention) if params["adaptive"] else best(attention, int(len(attention) * params["ratio"]))
        if params["plus"]:
            kept = torch.cat([kept, samples_between(kept, len(attention))])
        assert kept.tolist() == data["out.kept_in_reference_order"][i].tolist()
        same(with_neighbours(features, attention, keys[1:], kept), data["out.tokens"][i])


@pytest.mark.parametrize(("method", "case"), cases("tome"))
def test_tome(method, case):
    data, params = tensors(method, case), case["params"]
    match = matching(data["in.metric"], params["r"], int(params["class_token"]))
    assert len(match.sources) == params["r_effective"]
    pairs = dict(zip(data["out.sources"].tolist(), data["out.targets"].tolist(), strict=True))
    assert dict(zip(match.sources.tolist(), match.targets.tolist(), strict=True)) == pairs
    assert match.left.tolist() == data["out.index"].tolist()
    merged, size = merge(data["in.x"], data["in.size"], match)
    same(merged, data["out.merged"])
    same(size, data["out.merged_size"])


@pytest.mark.parametrize(("method", "case"), cases("hired"))
def test_hired(method, case):
    data, params = tensors(method, case), case["params"]
    first, last = (data[f"in.{name}_layer_cls"][:, :, 1:].sum(1) for name in ("first", "last"))
    tiles, tokens = last.shape
    total, grid, alpha = int(tiles * tokens * params["budget"]), tuple(params["grid_rows_cols"]), params["alpha"]
    assert (tiles, tokens, total) == (params["tiles"], params["tokens"], params["total"])
    budgets = tile_budgets(first[0], total, grid, alpha, stripes=True)
    mask = torch.zeros(tiles, tokens, dtype=torch.bool)
    for tile, budget in enumerate(budgets):
        mask[tile, last[tile].argsort(descending=True, stable=True)[:budget]] = True
    assert mask.tolist() == data["out.mask"].bool().tolist()
    assert budgets == data["out.kept_per_tile"].tolist()
    counts = region_counts(first[0], int(tokens * (1 - alpha)), grid)
    assert counts.tolist() == data["out.quadrant_counts"].tolist()
    assert tile_budgets(first[0], total, grid, alpha)[1:] == data["out.quadrant_budgets"].tolist()


@pytest.mark.parametrize(("method", "case"), cases("vispruner"))
def test_vispruner(method, case):
    data, params = tensors(method, case), case["params"]
    for i, features in enumerate(data["in.features"]):
        scores, mask = data["in.cls_attention"][i].mean(0), torch.zeros(len(features), dtype=torch.bool)
        mask[important_and_diverse(features, scores, params["keep"], params["important"])] = True
        assert mask.tolist() == data["out.mask"][i].bool().tolist()


@pytest.mark.parametrize(("method", "case"), cases("divprune"))
def test_divprune(method, case):
    data = tensors(method, case)
    order = most_diverse(data["in.features"], case["params"]["keep"])
    assert order.tolist() == data["out.order"].tolist()
    assert order.sort().values.tolist() == data["out.kept"].tolist()


@pytest.mark.parametrize(("method", "case"), cases("unshuffle_scores"))
def test_scores_of_a_token_are_those_of_its_patches(method, case):
    data, patches = tensors(method, case), torch.arange(case["params"]["side"] ** 2)
    assert blocks(patches[None, :, None], 2)[0, :, 0].tolist() == data["out.patches_of_token"].tolist()
    scores = data["in.cls_probabilities"][:, :, 1:]
    for reduce in ("sum", "mean"):
        found = blocks(getattr(scores, reduce)(1)[..., None], 2)[:, :, 0].sum(-1)
        if torch.allclose(found, data["out.token_scores"], atol=1e-5):
            return
    pytest.fail("neither the sum nor the mean over heads gives the recorded scores")
