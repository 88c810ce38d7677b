"""Resume a run exactly: position in the data, counters, random state, and gradients being accumulated."""

import os
import random
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from fcot.errors import UserError
from fcot.models.sharded_tensors import whole

GRADIENTS = "gradients"
Kind = TypeVar("Kind", bound=Callback)


def seed_all(seed: int, rank: int, batch: int) -> None:
    """Set the generators of Python, numpy, torch and its devices for one batch.

    Args:
        seed: Seed of the run.
        rank: Number of the process.
        batch: Number of the batch since the start of the run.
    """
    words = np.random.SeedSequence([seed, rank, batch]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))  # of all devices too


class ExactResume(Callback):
    """Makes a resumed run continue exactly as if it had not been interrupted.

    - It counts batches itself, by pass over the data: Lightning's own counters are off by one batch or a whole pass at
      several moments. It takes the state of the data module when a batch is done: later the next one may be under way,
      and a loader's own state is ahead by what it prefetched, and dropped where something asks for
      `estimated_stepping_batches`: https://github.com/Lightning-AI/pytorch-lightning/issues/20550
    - Randomness is a function of the run's seed, the process and the batch, set anew before each batch. So there is
      no state of any generator to save or to lose, and what happens between batches cannot shift it.
    - In the middle of gradient accumulation a checkpoint holds the gradients so far of each process. On another
      number of processes each goes on from their mean: the same step, but for rounding.
    - A validation that is due or under way is owed: the resumed run begins with it (`PendingValidation`).
    - A `GradientAccumulationScheduler` is told of passes that begin, not of one that is resumed within: the batches
      to a step are set here.
    - If a callback asked the run to end early, the checkpoint says so: an `EarlyStopping` does not ask again.
    - What is saved while a batch changes gradients or weights (`save_on_exception`) gets no position: no run may go on
      from there.
    """

    def __init__(self) -> None:
        self.seed: int | None = None
        self.epoch = 0  # whole passes over the data
        self.batches = 0  # batches of this pass that are done, on each process
        self.total = 0  # batches of the run that are done, on each process
        self.accumulate = 1  # batches to a step of this pass
        self.owed = False  # a validation is due, and has not ended
        self.ending = False  # the run was asked to end before its last step
        self._data: dict[str, Any] = {}  # of the data module, when the last batch was done, or none yet
        self._gradients: dict[str, Tensor] = {}  # of a checkpoint, until training starts
        self._resumed = False
        self._changing = False  # gradients or weights, by a batch that is not done

    def state_dict(self) -> dict[str, int | None]:
        """Return the position."""
        names = ("seed", "epoch", "batches", "total", "accumulate", "owed", "ending")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take the position of a checkpoint."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        self._resumed = True

    def on_load_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep gradients; count in steps where a step has another number of batches now.

        Raises:
            UserError: If the checkpoint lacks a position, or is in the middle of a step of another length.
        """
        if trainer.state.fn != "fit":
            return
        position = checkpoint.get("callbacks", {}).get(self.state_key)
        if position is None:
            raise UserError(
                "The checkpoint does not say where in the data its run was, so it cannot go on from there.\n"
                "Give one that a training with fcot's Trainer wrote, with all of its state."
            )
        before, now = position["accumulate"], batches_to_a_step(trainer, position["epoch"])
        if before != now:
            if position["batches"] % before:
                raise UserError(
                    f"The checkpoint was written within a step of {before} batches, and a step has {now} now.\n"
                    f"Set it to {before} again (trainer.accumulate_grad_batches, or the schedule of a "
                    "GradientAccumulationScheduler), or resume from an older checkpoint."
                )
            position.update({name: position[name] // before * now for name in ("batches", "total")}, accumulate=now)
            self._settle(checkpoint, position, checkpoint["global_step"])
        self._gradients = checkpoint.get(GRADIENTS, {})

    def on_save_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write all counters as they are between two batches, and gradients that wait for more."""
        if self._changing:
            del checkpoint["callbacks"][self.state_key]
            return
        checkpoint["callbacks"][self.state_key]["ending"] = self.ending = trainer.should_stop
        self._settle(checkpoint, {name: value or 0 for name, value in self.state_dict().items()}, trainer.global_step)
        if self._data:
            checkpoint[type(_data_of(trainer)).__qualname__] = self._data
        if self.accumulating(trainer):
            checkpoint[GRADIENTS] = gradients_of_all(trainer, pl_module)

    @staticmethod
    def _settle(checkpoint: dict[str, Any], position: dict[str, int], steps: int) -> None:
        """Write Lightning's counters for a position between two batches."""
        loop, epoch, batches = checkpoint["loops"]["fit_loop"], position["epoch"], position["batches"]
        begun = epoch + (batches > 0)
        epochs = {"ready": begun, "started": begun, "processed": epoch, "completed": epoch}
        none_left = {"is_last_batch": False}
        loop["epoch_progress"] = {"total": epochs, "current": dict(epochs)}
        loop["epoch_loop.batch_progress"] = {
            "total": evenly(position["total"]),
            "current": evenly(batches),
            **none_left,
        }
        loop["epoch_loop.val_loop.batch_progress"] = {"total": evenly(0), "current": evenly(0), **none_left}
        loop["epoch_loop.state_dict"] = {"_batches_that_stepped": steps}

    def accumulating(self, trainer: LightningTrainer) -> bool:
        """Return whether gradients wait for more batches before the next step."""
        return self.batches % batches_to_a_step(trainer, self.epoch) > 0

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Settle the seed, check that all processes start from the same batch, and put back gradients."""
        if self.seed is None:
            seed = os.environ.get("PL_GLOBAL_SEED")
            self.seed = trainer.strategy.broadcast(int(seed) if seed else torch.initial_seed() % 2**63)
        start = (self.seed, self.epoch, self.batches, self.total, trainer.global_step)
        if trainer.strategy.reduce_boolean_decision(trainer.strategy.broadcast(start) != start, all=False):
            raise UserError(
                f"The processes found different checkpoints to resume from (this one: step {trainer.global_step}).\n"
                "Give the same --ckpt_path to all of them, on a disk that all of them see."
            )
        self.accumulate = batches_to_a_step(trainer, self.epoch)
        self._changing = False
        self._data = state_of_data(trainer)
        parameters = dict(pl_module.named_parameters())
        for name, each in self._gradients.items():
            own = each
            if not isinstance(each, DTensor):  # sharded tensors were scattered when they were read
                own = each[trainer.global_rank].clone() if len(each) == trainer.world_size else each.mean(0)
            parameters[name].grad = own.to(parameters[name].device)
        self._gradients = {}

    def on_train_epoch_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """End the previous pass if its limit was beyond the data: Lightning did not know which batch was its last."""
        if self.batches:
            self._end_pass(trainer)
            self.accumulate = batches_to_a_step(trainer, self.epoch)
            self._data = state_of_data(trainer)

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the randomness of this batch."""
        assert self.seed is not None
        if self._resumed:  # Lightning counts one step too many where the checkpoint followed a validation
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            trainer.accumulate_grad_batches = self.accumulate  # not before: the scheduler refuses a number of others
            self._resumed = False
        self.owed = False
        seed_all(self.seed, trainer.global_rank, self.total)

    def on_before_backward(self, trainer: LightningTrainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note that the batch is about to change gradients or weights."""
        self._changing = True

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self._changing = False
        self.total += 1
        self.batches += 1
        if trainer.is_last_batch or self.batches == trainer.num_training_batches:
            self._end_pass(trainer)
        self.accumulate = batches_to_a_step(trainer, self.epoch)
        self._data = state_of_data(trainer)
        fetcher = trainer.fit_loop._data_fetcher
        self.owed = fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)

    def _end_pass(self, trainer: LightningTrainer) -> None:
        self.epoch, self.batches = self.epoch + 1, 0
        end = getattr(_data_of(trainer), "end_pass", None)
        if end is not None:  # a limit may have ended it before the data did
            end()

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Note that it is over."""
        self.owed = False

    def asks_to_end(self, trainer: LightningTrainer) -> bool:
        """Return whether the checkpoint's run was ended by an `EarlyStopping`; one without it now goes on."""
        return self.ending and bool(callbacks_of(trainer, EarlyStopping))


def batches_to_a_step(trainer: LightningTrainer, epoch: int) -> int:
    """Return how many batches a step has in a pass over the data.

    Args:
        trainer: Has a number for all passes, or a callback with a schedule of them.
        epoch: Number of the pass.
    """
    schedulers = callbacks_of(trainer, GradientAccumulationScheduler)
    return schedulers[0].get_accumulate_grad_batches(epoch) if schedulers else trainer.accumulate_grad_batches


def callbacks_of(trainer: LightningTrainer, kind: type[Kind]) -> list[Kind]:
    """Return a trainer's callbacks of one kind."""
    return [callback for callback in getattr(trainer, "callbacks", []) if isinstance(callback, kind)]


def _data_of(trainer: LightningTrainer) -> LightningDataModule | None:
    found: LightningDataModule | None = getattr(trainer, "datamodule", None)
    return found


def state_of_data(trainer: LightningTrainer) -> dict[str, Any]:
    """Return the state of the data module, empty without one."""
    data = _data_of(trainer)
    return {} if data is None else data.state_dict()


def evenly(count: int) -> dict[str, int]:
    """Return one of Lightning's counters, with nothing in progress."""
    return {"ready": count, "started": count, "processed": count, "completed": count}


def gradients_of_all(trainer: LightningTrainer, module: LightningModule) -> dict[str, Tensor]:
    """Return gradients by parameter, of each process `[processes, …]`; only the first process, which writes, has them.

    Their mean would suffice to continue, but not bit for bit: sums depend on their order. Under FSDP2 only the mean
    exists, `[1, …]`.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad or (parameter.grad is None and trainer.world_size == 1):
            continue
        own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach()
        parts = [own]
        if isinstance(own, DTensor):
            summed = whole(own)
            parts = [summed] if trainer.is_global_zero else []
        elif trainer.world_size > 1:
            parts = [torch.empty_like(own) for _ in range(trainer.world_size)] if trainer.is_global_zero else []
            distributed.gather(own.contiguous(), parts or None)
        if parts:
            found[name] = torch.stack([part.cpu() for part in parts])
    return found
