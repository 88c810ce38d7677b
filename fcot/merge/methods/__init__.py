"""Merge methods: each turns θ_base and its snapshots into weights; exporting one here registers it.

A method is `f(base, checkpoints, **params) → [w_1 … w_N]`, the weights of θ* = θ_base + Σ wᵢ (θᵢ - θ_base).
The merge procedure gives it those of the following that it names as keyword parameters, scores what it
returns and reports it beside the others: `values` (Shapley values), `single_utilities` (the snapshots' own
scores), `utility` (scores a `Combination`), `draws`, `seed` and `scale`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from fcot.errors import UserError
from fcot.merge.methods.average import average
from fcot.merge.methods.random_search import random_search
from fcot.merge.methods.shapley import shapley
from fcot.merge.methods.single import best_single, final
from fcot.merge.methods.task_arithmetic import task_arithmetic_mean, task_arithmetic_sum

__all__ = [  # noqa: RUF022 - simplest first, the order in which equal candidates are taken
    "final",
    "best_single",
    "average",
    "task_arithmetic_mean",
    "task_arithmetic_sum",
    "random_search",
    "shapley",
]

MergeMethod = Callable[..., list[float]]


def merge_methods() -> dict[str, MergeMethod]:
    """List the merge methods by name."""
    return {name: globals()[name] for name in __all__}


def merge_method(name: str) -> MergeMethod:
    """Find a merge method by its name.

    Raises:
        UserError: If there is none of that name; proposes the nearest.
    """
    methods = merge_methods()
    if name not in methods:
        near = difflib.get_close_matches(name, methods, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise UserError(f"There is no merge method '{name}'. {hint}The methods are: {', '.join(methods)}.")
    return methods[name]
