"""Callbacks of Lightning that cannot work here, and why."""

from importlib.util import find_spec

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    DeviceStatsMonitor,
    LearningRateFinder,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)

from fcot.errors import UserError

AVERAGES = (
    "exchanges the weights of a run at its end, which checkpoints, snapshots, student and merge are made of, and keeps "
    "a second copy of teacher and student.\n"
    "Leave it out; Snapshots with ShapleyMerge average the weights of a run (ShapleyMerge.method: average)."
)
REFUSED: dict[type[Callback], str] = {
    StochasticWeightAveraging: AVERAGES,
    WeightAveraging: AVERAGES,
    LearningRateFinder: (
        "sets one learning rate of a module, and here an optimizer has its own, by part.\n"
        "Leave it out; compare short runs with several --model.optimizer.lr."
    ),
    BatchSizeFinder: (
        "changes the batch size of a run, on which its order of samples, its schedule and its resuming depend.\n"
        "Leave it out; `fcot doctor` says what memory a step takes. Then set --data.batch_size."
    ),
    ModelPruning: (
        "gives the tensors of a model other names and masks, which no checkpoint and no model folder has.\n"
        "Leave it out; prune a student's folder after its training."
    ),
    OnExceptionCheckpoint: (
        "saves within a step, from where a run cannot go on exactly, and resumes without being asked.\n"
        "Leave it out; a run keeps checkpoints of its own, every --trainer.checkpoint_every_n_steps."
    ),
}


def refuse_callbacks(trainer: Trainer) -> None:
    """Check the callbacks of a run.

    Raises:
        UserError: If one of them cannot work, or needs a package that is not installed.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning declares none
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"{type(callback).__name__} {reason}")
        if isinstance(callback, DeviceStatsMonitor) and reads_cpus(callback, trainer) and not find_spec("psutil"):
            raise UserError(
                "DeviceStatsMonitor reads the load of CPUs by psutil, which is not installed.\n"
                "Run `pip install psutil`, or set its cpu_stats to false."
            )


def reads_cpus(monitor: DeviceStatsMonitor, trainer: Trainer) -> bool:
    """Return whether a monitor reads the CPU load: when it is set to, or when the run computes on CPUs."""
    asked = monitor._cpu_stats
    return trainer.strategy.root_device.type == "cpu" if asked is None else asked
