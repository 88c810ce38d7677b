"""Where merge methods are registered."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from fcot.registry import Registry

Mixture: TypeAlias = Sequence[float] | Mapping[str, Tensor]
MergeMethod: TypeAlias = Callable[..., Mixture]

# What a merge passes to methods with a keyword of that name; their other keywords are the user's options.
OFFERED = ("values", "banzhaf_values", "single_utilities", "utility", "draws", "seed")
MERGE_METHODS: Registry[MergeMethod] = Registry("merge method", own=("base", "checkpoints", *OFFERED))
