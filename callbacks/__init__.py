"""Lightning callbacks: one in each file."""

from callbacks.mixed_pages_log import MixedPagesLog
from callbacks.predictions import Predictions
from callbacks.progress import Progress
from callbacks.save_student import SaveStudent
from callbacks.shapley_merge import ShapleyMerge
from callbacks.snapshots import Snapshots
from callbacks.task_losses import TaskLosses
from shards.feed.skipped_samples import SkippedSamples

__all__ = [
    "MixedPagesLog",
    "Predictions",
    "Progress",
    "SaveStudent",
    "ShapleyMerge",
    "SkippedSamples",
    "Snapshots",
    "TaskLosses",
]
