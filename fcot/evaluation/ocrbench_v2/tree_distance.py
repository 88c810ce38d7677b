"""The tree edit distance of Zhang and Shasha (1989) with unit costs of insertion and deletion."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]
LARGEST = 40_000_000  # pairs of nodes; such a pair of trees takes gigabytes and minutes


class TooLarge(ValueError):
    """Two trees have more pairs of nodes than can be compared."""


@dataclass
class Node:
    """A node of a tree.

    Attributes:
        label: What renaming compares.
        children: In order.
    """

    label: Any
    children: list["Node"] = field(default_factory=list)


@dataclass(frozen=True)
class Postorder:
    """A tree as its nodes in postorder.

    Attributes:
        labels: Of the nodes.
        first: The leftmost leaf below each node, by its number in postorder.
    """

    labels: list[Any]
    first: npt.NDArray[np.int64]

    @classmethod
    def of(cls, root: Node) -> "Postorder":
        """Number the nodes of a tree; trees of any depth."""
        labels: list[Any] = []
        first: list[int] = []
        pending: list[tuple[Node, int, int]] = [(root, 0, 0)]  # node, next child, number of its first leaf
        while pending:
            node, child, start = pending.pop()
            start = len(labels) if child == 0 else start
            if child < len(node.children):
                pending += [(node, child + 1, start), (node.children[child], 0, 0)]
            else:
                labels.append(node.label)
                first.append(start)
        return cls(labels, np.asarray(first))

    def inner_keyroots(self) -> list[int]:
        """Return the nodes that are the highest of their leftmost leaf, without leaves, in order."""
        last = {int(leaf): number for number, leaf in enumerate(self.first)}
        return sorted(number for leaf, number in last.items() if number != leaf)


def tree_distance(one: Postorder, other: Postorder, rename: Costs) -> float:
    """Return the least cost of turning a tree into another.

    Args:
        one: The first tree, of n nodes.
        other: The second, of m nodes.
        rename: Cost of renaming each node into each other `[n, m]`, from 0 to 2.

    Raises:
        TooLarge: If n · m is over `LARGEST`.
    """
    n, m = rename.shape
    if n * m > LARGEST:
        raise TooLarge(f"{n} and {m} nodes")
    distances = np.empty((n, m))
    _leaves(one, other, rename, distances)
    for i in one.inner_keyroots():
        for j in other.inner_keyroots():
            _subtrees(i, j, one.first, other.first, rename, distances)
    return float(distances[-1, -1])


def _leaves(one: Postorder, other: Postorder, rename: Costs, distances: Costs) -> None:
    """Fill in the distances of all leaves to all subtrees: a leaf becomes the node that it is the most like."""
    n, m = rename.shape
    for j in range(m):
        start = int(other.first[j])
        rows = np.flatnonzero(one.first == np.arange(n))
        distances[rows, j] = j - start + rename[rows, start : j + 1].min(axis=1)
    columns = np.flatnonzero(other.first == np.arange(m))
    for i in range(n):
        start = int(one.first[i])
        distances[i, columns] = i - start + rename[start : i + 1, columns].min(axis=0)


def _subtrees(
    i: int, j: int, first: npt.NDArray[np.int64], other_first: npt.NDArray[np.int64], rename: Costs, distances: Costs
) -> None:
    """Fill in the distances of the subtrees on the left paths of two keyroots."""
    start, other_start = int(first[i]), int(other_first[j])
    columns = np.arange(other_start, j + 1)
    width = len(columns)
    steps = np.arange(width + 1, dtype=np.float64)
    forest = np.empty((i - start + 2, width + 1))
    forest[0] = steps
    whole_columns = other_first[columns] == other_start
    before = other_first[columns] - other_start  # of the forest left of each column's subtree
    for row, x in enumerate(range(start, i + 1), 1):
        above = forest[row - 1]
        left_of_x = forest[int(first[x]) - start]
        matched = left_of_x[before] + distances[x, columns]
        if first[x] == start:
            matched = np.where(whole_columns, above[:-1] + rename[x, columns], matched)
        best = np.minimum(above[1:] + 1, matched)
        line = forest[row]
        line[0] = row
        # insertions run along the row: the least of best[k] + (j − k)
        line[1:] = best
        line[:] = np.minimum.accumulate(line - steps) + steps
        if first[x] == start:
            distances[x, columns[whole_columns]] = line[1:][whole_columns]
