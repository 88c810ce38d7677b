"""Lightning callbacks: one in each file."""

from callbacks.predictions import Predictions
from callbacks.progress import Progress
from callbacks.skipped_samples import SkippedSamples
from callbacks.task_losses import TaskLosses

__all__ = ["Predictions", "Progress", "SkippedSamples", "TaskLosses"]
