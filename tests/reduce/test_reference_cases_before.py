"""Reducers before the language model give what the published code, or loops from a paper's text, give.

`FCOT_CASES` names another folder of such cases, with other sizes and options.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fcot.reduce.divprune import divprune
from fcot.reduce.hired import block_credits, important, share_out, split_budget
from fcot.reduce.prumerge import merge_neighbours, outliers
from fcot.reduce.prumerge_plus import with_samples
from fcot.reduce.seen import Attention, patches_of_tokens, top
from fcot.reduce.tome import match, merge
from fcot.reduce.visionzip import visionzip
from fcot.reduce.vispruner import vispruner

FOLDER = Path(os.environ.get("FCOT_CASES") or Path(__file__).parent / "fixtures")


def cases(method):
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


@pytest.mark.parametrize("case", cases("visionzip"))
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


@pytest.mark.parametrize("case", [*cases("prumerge"), *cases("prumerge_plus")])
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


@pytest.mark.parametrize("case", cases("vispruner"))
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


@pytest.mark.parametrize("case", cases("tome"))
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


@pytest.mark.parametrize("case", cases("hired"))
def test_hired(case):
    params, given, expected = case
    rows, columns = params["grid_rows_cols"]
    tiles, tokens = params["tiles"], params["tokens"]
    whole, rest = split_budget(tiles, tokens, params["budget"], params["alpha"])
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


@pytest.mark.parametrize("case", cases("divprune"))
def test_divprune(case):
    params, given, expected = case
    order = divprune(given["features"], params["keep"])
    assert order.tolist() == expected["order"].tolist()
    assert order.sort().values.tolist() == expected["kept"].tolist()


@pytest.mark.parametrize("case", cases("unshuffle_scores"))
def test_scores_of_the_tokens_of_a_tile(case):
    params, given, expected = case
    patches = patches_of_tokens(params["side"])
    assert patches.tolist() == expected["patches_of_token"].tolist()
    scores = given["cls_probabilities"].mean(1)[:, 1:]
    close(scores[:, patches].sum(2), expected["token_scores"])
