"""Packs on a realistic mix: pages of many shapes cut by InternVL's rule, answers of log-normal length."""

import numpy as np
import pytest

from fcot.internvl.tiling import grid, num_tiles
from shards.feed.order import share
from shards.feed.packing import pack

BUDGET = 16384
TILE, TOKEN = 0.724, 0.0034  # TFLOP of a re-alignment step of InternVL2-2B


def filled(packs, tokens, budget):
    """Which share of the packs' token budgets is used."""
    return sum(tokens[sample] for members in packs for sample in members) / (len(packs) * budget)


def balanced(given, costs):
    """The mean over the largest cost of a process: which share of their time processes work."""
    loads = [costs[items].sum() for items in given]
    return np.mean(loads) / max(loads)


def mix(samples, seed=0):
    """Tiles, teacher tokens and student tokens (ratio 2) of each sample; one in ten has no page."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(samples):
        width, height = (int(side) for side in rng.integers(200, 2400, 2))
        tiles = 0 if rng.random() < 0.1 else num_tiles(*grid(width, height, 12, tile_size=448))
        text = 60 + int(min(3000, rng.lognormal(5, 1)))
        found.append((tiles, min(tiles * 256 + text, 5120), tiles * 128 + text))
    return [list(column) for column in zip(*found, strict=True)]


def test_packs_are_full_for_teacher_and_student_alike():
    _, teacher, student = mix(512)
    assert filled(pack(teacher, BUDGET), teacher, BUDGET) >= 0.96
    assert filled(pack(student, BUDGET), student, BUDGET) >= 0.98
    # bins of one context length, what this is better than
    assert filled(pack(teacher, 5120), teacher, 5120) < 0.96


def test_no_pack_is_over_a_budget_and_no_sample_is_lost():
    tiles, teacher, _ = mix(300)
    packs = pack(teacher, BUDGET, tiles, 40)
    assert sorted(sample for members in packs for sample in members) == list(range(300))
    assert max(sum(teacher[sample] for sample in members) for members in packs) <= BUDGET
    assert max(sum(tiles[sample] for sample in members) for members in packs) <= 40


def test_a_sample_over_a_budget_has_a_pack_of_its_own():
    assert sorted(pack([50, 200, 30], 100)) == [[0, 2], [1]]
    assert sorted(pack([5, 5, 5], 100, [3, 9, 3], 8)) == [[0, 2], [1]]


def test_64_processes_work_nearly_all_the_time():
    tiles, teacher, student = map(np.array, mix(64 * 8))
    # the teacher runs forward, students forward and backward to their inputs; the vision tower once for all
    costs = TILE * tiles + TOKEN * (teacher + 2 * student)
    given = share(teacher, 64)
    assert {len(items) for items in given} == {8}
    assert sorted(np.concatenate(given).tolist()) == list(range(512))
    assert balanced(given, costs) >= 0.97
    dealt = np.random.default_rng(0).permutation(512).reshape(64, 8)
    assert balanced(dealt, costs) < 0.9


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="token_budget is 0"):
        pack([1], 0)
