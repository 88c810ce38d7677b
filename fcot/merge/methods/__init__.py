"""Merge methods, one a file; `@MERGE_METHODS.add` and a line here register one.

A method is `f(base, checkpoints, *, …)`. It returns either the weights [w_1 … w_N] of θ* = θ_base + Σ wᵢ (θᵢ - θ_base),
or the merged tensors themselves as a mapping that computes a tensor at each look-up, so that no second model is in
memory.
The merge scores and reports every method's result. It passes what a method has a keyword for: `values` (Shapley
values), `banzhaf_values` (if every coalition was scored), `single_utilities` (the snapshots' own scores), `utility`
(scores a `Combination`, at most as many as there are coalitions), `draws` and `seed`. Other keywords of a method are
options that a user sets in YAML.
"""

from __future__ import annotations

from fcot.merge.methods.registry import MERGE_METHODS, OFFERED, MergeMethod, Mixture

# Methods are registered in this order, the simplest first, and the first of equal candidates is kept.
# isort: off
from fcot.merge.methods.single import best_single, final
from fcot.merge.methods.average import average
from fcot.merge.methods.tail_average import tail_average
from fcot.merge.methods.exponential_average import exponential_average
from fcot.merge.methods.task_arithmetic import task_arithmetic_mean, task_arithmetic_sum
from fcot.merge.methods.greedy_soup import greedy_soup
from fcot.merge.methods.random_search import random_search
from fcot.merge.methods.shapley import shapley
from fcot.merge.methods.banzhaf import banzhaf
from fcot.merge.methods.ties import ties
from fcot.merge.methods.dare import dare
# isort: on

__all__ = [
    "MERGE_METHODS",
    "OFFERED",
    "MergeMethod",
    "Mixture",
    "average",
    "banzhaf",
    "best_single",
    "dare",
    "exponential_average",
    "final",
    "greedy_soup",
    "random_search",
    "shapley",
    "tail_average",
    "task_arithmetic_mean",
    "task_arithmetic_sum",
    "ties",
]
