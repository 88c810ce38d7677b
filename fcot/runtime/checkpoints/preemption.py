"""On a signal to stop: one checkpoint at the same batch on all processes, then the same exit code on each.

A signal handler only notes the signal. Between two batches the processes agree whether any of them got one.
"""

import os
import signal
import subprocess
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from torch import distributed

from fcot.runtime.checkpoints.exact_resume import ExactResume
from fcot.runtime.checkpoints.last_checkpoint import LastCheckpoint, keepers_of
from fcot.runtime.checkpoints.workers import SECONDS_TO_LEAVE
from fcot.runtime.strategy import FSDP2Strategy

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again


class Preempted(SystemExit):
    """A run was asked to stop, and did, with exit code 75."""

    def __init__(self) -> None:
        super().__init__(EXIT_PREEMPTED)


class NotedSignals(_SignalConnector):
    """Handlers that note which signal came, while a training runs; nothing is saved or sent inside a handler.

    Lightning's own saves a checkpoint in the handler under SLURM, and starts a collective in it, which hangs where
    the other processes are in another one.
    """

    noted = 0

    def register_signal_handlers(self) -> None:
        """Note SIGTERM, SIGUSR1 and the signal that SLURM sends before the time is up; only `fit` does so."""
        if self.trainer.state.fn != "fit" or threading.current_thread() is not threading.main_thread():
            return
        self.noted = 0
        for number in {signal.SIGTERM, signal.SIGUSR1, requeue_signal(self.trainer)}:
            self._original_handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # the signal to requeue takes precedence over the one to end: SLURM sends both
        wanted = requeue_signal(self.trainer)
        self.noted = number if self.noted in (0, number) or number == wanted else self.noted


def requeue_signal(trainer: LightningTrainer) -> signal.Signals:
    """Return the signal after which a SLURM job is queued again."""
    environment = trainer._accelerator_connector.cluster_environment
    asked = environment.requeue_signal if isinstance(environment, SLURMEnvironment) else None
    return signal.Signals(asked or signal.SIGUSR1)


class Preemption(Callback):
    """Ends a training that was sent SIGTERM or SIGUSR1, on whichever process: one checkpoint, exit code 75 on all.

    It acts before the next batch, of training or validation; the resumed run begins with an interrupted validation.
    Under SLURM with automatic requeueing, the signal for that also queues the job again, and the job resumes by itself
    (`Trainer.fit`). As in training, all processes need the same number of validation batches.

    Args:
        position: Counts the batches.
    """

    def __init__(self, position: ExactResume) -> None:
        self.position = position
        self._start = 0  # batches that were done when this process began
        self._group: Any = None

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Have a group on the CPU for agreeing: no device is waited for."""
        self._start = self.position.total
        if trainer.world_size > 1:
            timeout = getattr(trainer.strategy, "_timeout", None) or timedelta(minutes=30)
            self._group = distributed.new_group(backend="gloo", timeout=timeout)

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave, if any process was asked to."""
        keeper = keeper_of(trainer)
        if isinstance(keeper, LastCheckpoint):
            keeper.write_if_due(trainer)  # a signal that comes in the meantime needs no second one
        self._leave_if_asked(trainer, keeper)

    def on_validation_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Save and leave, if any process was asked to."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._leave_if_asked(trainer, keeper_of(trainer))

    def _leave_if_asked(self, trainer: LightningTrainer, keeper: ModelCheckpoint | None) -> None:
        if not self._can_save(trainer):
            return
        number = self._agreed(trainer)
        if number:
            if keeper is not None and self._unsaved(trainer, keeper):
                keeper._save_last_checkpoint(trainer, keeper._monitor_candidates(trainer))
            self._leave(trainer, number, str(keeper.last_model_path) if keeper is not None else "")

    def _unsaved(self, trainer: LightningTrainer, keeper: ModelCheckpoint) -> bool:
        """Return whether batches were done since the last checkpoint: a step may be saved, and part of the next not."""
        within = self.position.accumulating(trainer) and self.position.total > self._start
        return within or keeper._last_global_step_saved != trainer.global_step

    def on_train_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Leave if asked to during the last step, which is saved by now; later signals end the process as usual."""
        number = self._agreed(trainer)
        if number:
            self._leave(trainer, number, "")
        trainer._signal_connector.teardown()
        self._group = None  # nothing is asked of the others any more

    def _can_save(self, trainer: LightningTrainer) -> bool:
        """Return whether the state between these batches can be saved: split gradients cannot."""
        whole = isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy, FSDP2Strategy))
        return whole or not self.position.accumulating(trainer)

    def _agreed(self, trainer: LightningTrainer) -> int:
        """Return the signal that any process got, 0 if none did; all processes together."""
        noted = int(getattr(trainer._signal_connector, "noted", 0))
        if self._group is None:
            return noted
        wanted = requeue_signal(trainer)
        both = torch.tensor([noted, noted == wanted])
        distributed.all_reduce(both, op=distributed.ReduceOp.MAX, group=self._group)
        return int(wanted) if both[1] else int(both[0])

    def _leave(self, trainer: LightningTrainer, number: int, saved: str) -> None:
        """Tell, queue again under SLURM, and exit; all processes together.

        Raises:
            Preempted: Always.
        """
        environment = trainer._accelerator_connector.cluster_environment
        if trainer.is_global_zero:
            name = signal.Signals(number).name
            where = f"saved in {saved}" if saved else "nothing more to save"
            print(f"{name} at step {trainer.global_step}: {where}. Go on with --ckpt_path last.", flush=True)
            again = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
            if again and number == requeue_signal(trainer):
                requeue()
        started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
        children = list(started)
        started.clear()  # Lightning watches this list, and kills this process when one of them exits with a code
        if self._group is not None:
            distributed.barrier(self._group)
        for child in children:
            try:
                child.wait(SECONDS_TO_LEAVE)
            except subprocess.TimeoutExpired:
                child.kill()
        raise Preempted


def keeper_of(trainer: LightningTrainer) -> ModelCheckpoint | None:
    """Return the callback that keeps the last checkpoint, the run's own if it has one, None without any."""
    keepers = [keeper for keeper in keepers_of(trainer) if keeper.save_last]
    return next((keeper for keeper in keepers if isinstance(keeper, LastCheckpoint)), keepers[0] if keepers else None)


def requeue() -> None:
    """Put this SLURM job back into the queue, under its own number."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        print(f"scontrol requeue {job} failed ({reason}). Submit the job again by hand.", flush=True)
