"""The progress of a run: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
from collections import deque
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn

from fcot.batch import Batch


class Rate:
    """Samples and batches a second over the last batches, without the time of validations.

    Args:
        window: How many batches count.
    """

    def __init__(self, window: int) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=window + 1)  # time in seconds, samples until then
        self._paused = 0.0

    def start(self) -> None:
        """Forget what was, start now."""
        self._marks.clear()
        self._marks.append((monotonic(), 0))

    def add(self, samples: int) -> None:
        """Count a batch that ends now."""
        self._marks.append((monotonic(), (self._marks[-1][1] if self._marks else 0) + samples))

    def pause(self) -> None:
        """Stop the clock."""
        self._paused = monotonic()

    def resume(self) -> None:
        """Resume timing."""
        pause = monotonic() - self._paused
        self._marks = deque(((time + pause, samples) for time, samples in self._marks), self._marks.maxlen)

    @property
    def batches(self) -> float | None:
        """Batches a second, None before there is one."""
        seconds = self._seconds()
        return (len(self._marks) - 1) / seconds if seconds > 0 else None

    @property
    def samples(self) -> float | None:
        """Samples a second, None before there is one."""
        seconds = self._seconds()
        return (self._marks[-1][1] - self._marks[0][1]) / seconds if seconds > 0 else None

    def _seconds(self) -> float:
        return self._marks[-1][0] - self._marks[0][0] if self._marks else 0.0


def as_clock(seconds: float) -> str:
    """Return seconds as "0:07", "1:10" or "2:03:09"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class CurrentStderr:
    """Writes to what `sys.stderr` is at the time: while a bar is drawn, to the space above it."""

    def write(self, text: str) -> int:
        """Write text."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        sys.stderr.flush()


def log_above_bars() -> None:
    """Let log lines appear above a bar; a handler keeps the stream it was made with and writes into the bar."""
    for name in (None, "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__):
                handler.setStream(CurrentStderr())


class Progress(RichProgressBar):
    """Shows steps, losses and samples a second; one line every few steps where output is no terminal.

    The bar of training counts optimizer steps up to the last one of the run. Whatever else is printed appears above
    the bar.

    Args:
        every_n_steps: Steps from one line to the next, and steps over which samples a second are measured.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        super().__init__(refresh_rate=10)
        self.every_n_steps = every_n_steps
        self.rate = Rate(every_n_steps)
        self._plain = False
        self._printed = 0  # the last step that has a line

    # -- bar or lines ------------------------------------------------------------------------------------

    @property
    def is_enabled(self) -> bool:
        """Whether a bar is drawn."""
        return super().is_enabled and not self._plain

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out where output goes."""
        super().setup(trainer, pl_module, stage)
        console = Console()
        self._plain = not (console.is_jupyter or (sys.stdout.isatty() and not console.is_dumb_terminal))
        if self.is_enabled:
            log_above_bars()

    def _say(self, *parts: str) -> None:
        if self._plain and self._enabled:
            print("  ".join(part for part in parts if part), flush=True)

    # -- training ----------------------------------------------------------------------------------------

    @property
    def total_train_batches(self) -> int | float:
        """Optimizer steps of the run; batches of an epoch if it has no last step."""
        return self.trainer.max_steps if self.trainer.max_steps > 0 else super().total_train_batches

    def _get_train_description(self, current_epoch: int) -> str:
        return self.train_description  # Lightning's says "Epoch 0/-2" in a run bounded by its steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._printed = trainer.global_step
        self.rate = Rate(self.every_n_steps * trainer.accumulate_grad_batches)
        self.rate.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar; one that counts steps continues through all epochs."""
        if self.train_progress_bar_id is None or trainer.max_steps < 1:
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, or print a line."""
        self._count(trainer, batch)
        step = trainer.global_step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, step - 1 if trainer.max_steps > 0 else batch_idx)
        # batches that accumulate gradients share a step
        if step > self._printed and (step % self.every_n_steps == 0 or step == trainer.max_steps):
            self._printed = step
            speed = self._speed()
            self._say(
                self._steps(trainer),
                *self._metrics(trainer),
                speed and f"{speed} samples/s",
                self._left(trainer),
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training, or start one."""
        super().on_validation_start(trainer, pl_module)
        if trainer.state.fn == "fit":
            self.rate.pause()
        else:
            self.rate.start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Resume timing; print the results of the validation."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit":
            self.rate.resume()
        if not trainer.sanity_checking:
            found = [f"{name} {text}" for name, text in self._shown(trainer).items() if name.startswith("val ")]
            self._say(self._steps(trainer), *found)

    # -- reading -----------------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_test_start(trainer, pl_module)
        self.rate.start()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_predict_start(trainer, pl_module)
        self.rate.start()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar, or print a line."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._read(trainer, batch, batch_idx, "test")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar, or print a line."""
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._read(trainer, batch, batch_idx, "predict")

    def _read(self, trainer: Trainer, batch: Any, batch_idx: int, verb: str) -> None:
        self._count(trainer, batch)
        if (batch_idx + 1) % self.every_n_steps == 0:
            speed = self._speed()
            self._say(f"{verb} batch {batch_idx + 1}", speed and f"{speed} samples/s")

    # -- what is shown -----------------------------------------------------------------------------------

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Return the columns of a bar: short, without batches a second, for there are samples a second."""
        columns = [c for c in super().configure_columns(trainer) if not isinstance(c, ProcessingSpeedColumn)]
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = 16
        return columns

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what stands beside the bar: losses by short names, samples a second."""
        speed = self._speed()
        return {**self._shown(trainer), **({"samples/s": speed} if speed else {})}

    def _count(self, trainer: Trainer, batch: Any) -> None:
        self.rate.add(len(batch) * trainer.world_size if isinstance(batch, Batch) else 0)

    def _shown(self, trainer: Trainer) -> dict[str, str]:
        metrics = trainer.progress_bar_metrics
        return {name.removeprefix("train/").replace("/", " "): f"{value:.3f}" for name, value in metrics.items()}

    def _metrics(self, trainer: Trainer) -> list[str]:
        return [f"{name} {text}" for name, text in self._shown(trainer).items() if not name.startswith("val ")]

    def _speed(self) -> str:
        rate = self.rate.samples
        return "" if not rate else f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"

    def _steps(self, trainer: Trainer) -> str:
        return f"step {trainer.global_step}" + (f"/{trainer.max_steps}" if trainer.max_steps > 0 else "")

    def _left(self, trainer: Trainer) -> str:
        if trainer.max_steps < 1 or not self.rate.batches:
            return ""
        batches = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
        return f"eta {as_clock(batches / self.rate.batches)}"
