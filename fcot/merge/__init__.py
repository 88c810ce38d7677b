"""Merge snapshots of a run with weights from Shapley values: pure functions, out of core, no Lightning."""

from fcot.files.weights import LazyWeights, open_weights, write_weights
from fcot.merge.cached_loader import CachedLoader
from fcot.merge.checks import check_readable, check_same_tensors, fingerprint
from fcot.merge.choice import check_method
from fcot.merge.combine import Combination, coalition_weights
from fcot.merge.game import (
    SampledShapley,
    banzhaf_values,
    check_count,
    coalition_key,
    coalitions,
    sampled_shapley,
    score_coalitions,
    shapley_values,
)
from fcot.merge.intervals import value_intervals
from fcot.merge.methods import MERGE_METHODS, MergeMethod
from fcot.merge.picture import draw_merge
from fcot.merge.procedure import MERGED, merge_snapshots
from fcot.merge.report import Control, MergeReport
from fcot.merge.scores import PageScores, ScoreBook, Utility

__all__ = [
    "MERGED",
    "MERGE_METHODS",
    "CachedLoader",
    "Combination",
    "Control",
    "LazyWeights",
    "MergeMethod",
    "MergeReport",
    "PageScores",
    "SampledShapley",
    "ScoreBook",
    "Utility",
    "banzhaf_values",
    "check_count",
    "check_method",
    "check_readable",
    "check_same_tensors",
    "coalition_key",
    "coalition_weights",
    "coalitions",
    "draw_merge",
    "fingerprint",
    "merge_snapshots",
    "open_weights",
    "sampled_shapley",
    "score_coalitions",
    "shapley_values",
    "value_intervals",
    "write_weights",
]
