"""The tree edit distance."""

import random
from functools import cache

import numpy as np
import pytest

from fcot.evaluation.ocrbench_v2 import tree_distance as subject
from fcot.evaluation.ocrbench_v2.tree_distance import Node, Postorder, TooLarge, tree_distance

COSTS = np.asarray([[0, 1, 0.3], [1, 0, 0.75], [0.3, 0.75, 0]])


def by_definition(one, other):
    """The least cost of two forests by the recursion that defines it."""

    @cache
    def of(forest, others):
        if not forest and not others:
            return 0.0
        costs = []
        if forest:
            costs.append(of(forest[:-1] + forest[-1][1], others) + 1)
        if others:
            costs.append(of(forest, others[:-1] + others[-1][1]) + 1)
        if forest and others:
            (label, below), (other_label, others_below) = forest[-1], others[-1]
            costs.append(of(forest[:-1], others[:-1]) + of(below, others_below) + COSTS[label, other_label])
        return min(costs)

    return of((one,), (other,))


def grown(size, rng):
    nodes = [Node(rng.randrange(3))]
    for _ in range(size - 1):
        nodes.append(Node(rng.randrange(3)))
        rng.choice(nodes[:-1][-4:]).children.append(nodes[-1])
    return nodes[0]


def plain(node):
    return node.label, tuple(plain(child) for child in node.children)


@pytest.mark.parametrize("seed", range(40))
def test_the_distance_is_the_one_of_the_definition(seed):
    rng = random.Random(seed)
    one, other = (grown(rng.randrange(1, 9), rng) for _ in range(2))
    first, second = Postorder.of(one), Postorder.of(other)
    found = tree_distance(first, second, COSTS[np.ix_(first.labels, second.labels)])
    assert found == pytest.approx(by_definition(plain(one), plain(other)), abs=1e-12)


def test_trees_too_large_are_refused(monkeypatch):
    monkeypatch.setattr(subject, "LARGEST", 3)
    tree = Postorder.of(Node(0, [Node(1)]))
    with pytest.raises(TooLarge, match="2 and 2 nodes"):
        tree_distance(tree, tree, np.zeros((2, 2)))
