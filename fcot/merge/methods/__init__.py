"""Merge methods, one a file; `@MERGE_METHODS.add` and a line here register one.

A method is `f(base, checkpoints, *, …)`. It returns either the weights [w_1 … w_N] of θ* = θ_base + Σ wᵢ (θᵢ - θ_base),
or the merged tensors themselves as a mapping that computes a tensor at each look-up, so that no second model is in
memory.
The merge gives it those of the following that it names as keywords, scores what it returns and reports it beside the
others: `values` (Shapley values), `single_utilities` (the snapshots' own scores), `utility` (scores a `Combination`),
`draws` and `seed`. Its other keywords are options, which a user sets in YAML.
"""

from __future__ import annotations

from fcot.merge.methods.average import average
from fcot.merge.methods.random_search import random_search
from fcot.merge.methods.registry import MERGE_METHODS, OFFERED, MergeMethod, Mixture
from fcot.merge.methods.shapley import shapley
from fcot.merge.methods.single import best_single, final
from fcot.merge.methods.task_arithmetic import task_arithmetic_mean, task_arithmetic_sum

__all__ = [
    "MERGE_METHODS",
    "OFFERED",
    "MergeMethod",
    "Mixture",
    "average",
    "best_single",
    "final",
    "merge_method",
    "merge_methods",
    "random_search",
    "shapley",
    "task_arithmetic_mean",
    "task_arithmetic_sum",
]

SIMPLEST_FIRST = (final, best_single, average, task_arithmetic_mean, task_arithmetic_sum, random_search, shapley)


def merge_methods() -> dict[str, MergeMethod]:
    """List the merge methods by name, the simplest first: the order in which equal candidates are taken."""
    ours = {method.__name__: method for method in SIMPLEST_FIRST}
    return ours | {name: method for name, method in MERGE_METHODS.items() if name not in ours}


def merge_method(name: str) -> MergeMethod:
    """Find a merge method by its name.

    Raises:
        UserError: If there is none of that name; proposes the nearest.
    """
    return MERGE_METHODS[name]
