"""Rows of attention equal those of the whole map, and ties and clusters are decided by place."""

from __future__ import annotations

import math

import pytest
import torch

from fcot.reduce import Fastv
from fcot.reduce.attention import attention_of_last, attention_received, row_probabilities
from fcot.reduce.clusters import density_peaks
from fcot.reduce.inside import Row


def whole_map(query, key, scaling):
    """Probabilities `[heads, length, past + length]` in float64, head by head."""
    heads, length, _ = query.shape
    maps = []
    for head in range(heads):
        logits = query[head].double() @ key[head * len(key) // heads].double().T * scaling
        past = key.shape[1] - length
        maps.append(logits.masked_fill(~torch.ones_like(logits).tril(past).bool(), -math.inf).softmax(-1))
    return torch.stack(maps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "past"), [(9, 0), (9, 4), (300, 0)])
def test_rows_are_those_of_the_whole_map(length, past, dtype):
    draw = torch.Generator().manual_seed(0)
    query = (3 * torch.randn(6, length, 8, generator=draw)).to(dtype)
    key = (3 * torch.randn(2, past + length, 8, generator=draw)).to(dtype)
    expected, rows = whole_map(query, key, 0.3), torch.tensor([0, 3, length - 1])
    with torch.autocast("cpu", torch.bfloat16):  # scores stay precise in it
        found = row_probabilities(query, key, rows, 0.3)
        last, received = attention_of_last(query, key, 0.3), attention_received(query, key, 0.3)
    torch.testing.assert_close(found.double(), expected[:, rows], rtol=0, atol=1e-6)
    torch.testing.assert_close(last.double(), expected[:, -1, past:].mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(received.double(), expected[:, :, past:].mean((0, 1)), rtol=0, atol=1e-6)


def test_of_equal_scores_the_lower_place_stays():
    places = torch.arange(100)
    nothing = torch.zeros(100, 1)
    visual = places >= 10
    row = Row(
        nothing, places, visual, torch.zeros_like(places), places, nothing, None, (90,), 0, 24, lambda states: states
    )
    assert Fastv(keep=0.1).best(row, torch.ones(100)).tolist() == list(range(10, 19))


def test_clusters_are_those_of_the_definition():
    states = torch.randn(23, 5, generator=torch.Generator().manual_seed(1))
    states[7] = states[4]  # equally dense
    clusters, width = 3, 5
    apart = [[math.dist(a, b) / math.sqrt(width) for b in states.tolist()] for a in states.tolist()]
    density = [math.exp(-sum(d * d for d in sorted(row)[:clusters]) / clusters) for row in apart]
    density[7] = density[4]
    farthest = max(max(row) for row in apart)
    score = []
    for i, row in enumerate(apart):
        denser = [d for j, d in enumerate(row) if (density[j], -j) > (density[i], -i)]
        score.append(density[i] * min(denser, default=farthest))
    centres = sorted(range(23), key=lambda i: (-score[i], i))[:clusters]
    groups = {centre: [] for centre in centres}
    for i in range(23):
        groups[i if i in groups else min(centres, key=lambda centre: apart[i][centre])].append(states[i])
    found = density_peaks(states, clusters)
    assert found.centres.tolist() == centres
    torch.testing.assert_close(found.means, torch.stack([torch.stack(group).mean(0) for group in groups.values()]))


def test_tokens_that_are_all_alike_stay_what_they_are_when_merged():
    found = density_peaks(torch.ones(12, 5), 3)
    assert found.centres.tolist() == [0, 1, 2]
    assert found.means.equal(torch.ones(3, 5))
