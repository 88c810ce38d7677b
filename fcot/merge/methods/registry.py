"""Where merge methods are registered."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from fcot.registry import Registry

Mixture: TypeAlias = Sequence[float] | Mapping[str, Tensor]
MergeMethod: TypeAlias = Callable[..., Mixture]

# What a merge gives a method that asks for it by name; every other parameter is an option of the user.
OFFERED = ("values", "single_utilities", "utility", "draws", "seed")
MERGE_METHODS: Registry[MergeMethod] = Registry("merge method", own=("base", "checkpoints", *OFFERED))
