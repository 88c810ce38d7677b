"""The LightningModule that re-alignment and post-training share."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from fcot.batch import Batch
from fcot.convert.auto_convert import native_folder
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.metrics import check_metrics
from fcot.models.sampling import GREEDY, Sampling
from fcot.models.sharded_tensors import local
from fcot.models.sharding import is_sharded, reshard, shard, unshard
from fcot.models.student_teacher import StudentTeacher, answer_samples, part_of
from fcot.reduce import reducer_of
from fcot.training.loss_weighting import StepMean, over_processes
from fcot.training.page_reader import PageReader
from fcot.training.schedule import Shape, check_schedule, schedule

Parameters = Iterable[nn.Parameter] | list[dict[str, Any]]
NO_DECAY = "_no_decay"  # ends the name of a group of parameters
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # these keep trainable parameters and rotary frequencies in fp32


class BaseTask(PageReader):
    """Trains a student in a `StudentTeacher` on batches of pages.

    A subclass builds the container, chooses the trainable parts, and computes the loss.

    Args:
        checkpoint: Model folder to start from; the authors' original layout is first converted to CHECKPOINT-native.
        optimizer: Optimizer of the trainable parameters (default: AdamW).
        warmup: Warm-up steps if 1 or more, otherwise their share of all steps.
        lr_schedule: How the learning rate goes on after warm-up: cosine falls along a half cosine; constant stays, for
            snapshots that are worth averaging; warmup_stable_decay stays, and falls linearly at the end.
        lr_floor: Share of the peak learning rate that remains at the end.
        lr_decay: Share of all steps in which warmup_stable_decay falls.
        max_length: Most tokens of a sample, counted without compression, so that all ratios use the same samples
            (default: the model's). Longer samples lose the end of their text; samples with no room left for an answer
            are skipped.
        control_tokens: What a control token such as <|im_end|> is in a question or an answer: text, or as_written for
            InternVL's behaviour, where it ends the turn (default: as the checkpoint's config.json says, or text).
        max_tiles: Most tiles of an image, thumbnail not counted (default: the model's).
        max_new_tokens: Longest answer in tests and predictions, in tokens.
        sampling: How answers are drawn in tests and predictions: temperature (0 is greedy), top_p, seed, and
            num_answers to each question, whose mean score counts.
        reduce: Short name of a training-free reducer of visual tokens, such as fastv, that acts while answers are
            generated. On the command line, `--reduce fastv --reduce.keep 0.5` sets the reducer and its options.
        reduce_options: Options of that reducer, such as `{keep: 0.5}`.
        metrics: Metrics of each task, of which the first counts; "*" for all other tasks (default: anls).
        label: Name of this stage in tables (default: that of the class).
    """

    stage: str
    lr_scale: Mapping[str, float] = MappingProxyType({})  # factors on the learning rates of parts

    def __init__(
        self,
        checkpoint: Path,
        *,
        optimizer: Callable[[Parameters], Optimizer] = AdamW,
        warmup: float = 0.03,
        lr_schedule: Shape = "cosine",
        lr_floor: float = 0.0,
        lr_decay: float = 0.2,
        max_length: int | None = None,
        control_tokens: Literal["text", "as_written"] | None = None,
        max_tiles: int | None = None,
        max_new_tokens: int = 256,
        sampling: Sampling = GREEDY,
        reduce: str | None = None,
        reduce_options: dict[str, Any] | None = None,
        metrics: dict[str, list[str]] | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.folder = ModelFolder(native_folder(Path(checkpoint)))
        self.make_optimizer = optimizer
        check_schedule(lr_schedule, lr_decay)
        self.warmup, self.lr_schedule, self.lr_floor, self.lr_decay = warmup, lr_schedule, lr_floor, lr_decay
        self.max_length, self.max_tiles, self.control_tokens = max_length, max_tiles, control_tokens
        self.max_new_tokens, self.sampling = max_new_tokens, sampling
        self.reducer = reducer_of(reduce, reduce_options)
        self.reducer_settings = {} if reduce is None else {"name": reduce, **(reduce_options or {})}
        self.metrics = metrics or {"*": ["anls"]}
        check_metrics(self.metrics)
        self.label = label or self.stage
        self.step_mean = StepMean()
        self.strict_loading = False  # checkpoints hold trainable parameters only

    # -- what a subclass provides ------------------------------------------------------------------------

    @abstractmethod
    def build(self) -> StudentTeacher:
        """Build the container and set its trainable parts."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return "loss" with its gradient, further means to log, "ce_rows" `[answers]`, and "weight".

        Means are over this process's answer rows; "weight" is the sum of those rows' weights.
        """

    # -- shared ------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load the weights once, and shard them in training if the strategy does.

        Raises:
            UserError: If they are to be sharded and there is a teacher, or the precision would cast all of them.
        """
        if hasattr(self, "pair"):
            return
        precision = self.trainer.precision if self._trainer is not None else PRECISIONS[0]
        if precision not in PRECISIONS:
            raise UserError(
                f"trainer.precision is {precision!r}, which also casts trainable parameters and rotary frequencies.\n"
                "Use bf16-mixed or 32-true."
            )
        mesh = self._device_mesh if self._trainer is not None and self.trainer.state.fn == "fit" else None
        if mesh is not None and self.has_teacher:
            raise UserError(
                f"{type(self).__name__} trains few parameters, and trainer.strategy would shard all of them.\n"
                "Set --trainer.strategy auto; fsdp2 is for SFT."
            )
        # Lightning calls this with the run's device as torch's default, for which transformers would want `accelerate`
        with torch.device("cpu"):
            self.pair = self.build().train()  # from_pretrained leaves evaluation mode, and Lightning keeps it
        if self.control_tokens is not None:  # what it learned so is asked so
            for student in self.pair.students().values():
                student.config.control_tokens = self.control_tokens
        mixed = precision == "bf16-mixed"
        if mixed:
            if self.trainer.state.fn == "fit" or self.trainer.ckpt_path:
                _ = self.frozen_sha256  # hashed before the cast, so that a checkpoint fits its base at any precision
            self.pair.keep_frozen_in(torch.bfloat16)  # or autocast would cast them at every step
        if mesh is not None:
            shard(self.pair, mesh["data_parallel"], torch.bfloat16 if mixed else None)

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """Use the folder's full weights inside this context if this process's weights are sharded."""
        shared = self.pair
        if is_sharded(shared):
            self.pair = self.build().to(self.device)
        try:
            yield
        finally:
            self.pair = shared

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer, and a schedule that ends at `trainer.max_steps`."""
        steps = self.trainer.max_steps
        if steps < 1:
            raise UserError(
                f"trainer.max_steps is {steps}, but the schedule needs the number of steps.\n"
                "Set --trainer.max_steps; one pass takes samples / (batch size x accumulation x devices)."
            )
        optimizer = self.make_optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= self.lr_scale.get(group["name"].removesuffix(NO_DECAY), 1.0)
        rates = schedule(
            optimizer,
            warmup=self.warmup,
            total_steps=steps,
            shape=self.lr_schedule,
            floor=self.lr_floor,
            decay=self.lr_decay,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group trainable parameters by part, and vectors (norms, biases) apart, without weight decay."""
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.pair.trainable():
            groups.setdefault((part_of(name), parameter.ndim > 1), []).append(parameter)
        return [
            {"params": params, **({"name": part} if decay else {"name": part + NO_DECAY, "weight_decay": 0.0})}
            for (part, decay), params in groups.items()
        ]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the loss of a batch and, for callbacks, each row's loss and sample."""
        sequences = batch.sequences["student"]
        losses = over_processes(self.losses(batch))
        if self.trainer.accumulate_grad_batches > 1:
            losses["loss"] = self.step_mean.weigh(losses["loss"], losses["weight"])
        for name, value in losses.items():
            if value.ndim == 0 and name != "weight":
                self.log(f"train/{name}", value.detach(), prog_bar=True, batch_size=len(batch))
        return {
            "loss": losses["loss"],
            "ce_rows": losses["ce_rows"].detach(),
            "row_samples": answer_samples(sequences),
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients; unlike Lightning, also for a fused optimizer in bf16, which needs no loss scaler."""
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_after_backward(self) -> None:
        """After the last batch of a step, rescale gradients to the mean over the answer tokens of all its batches.

        In `on_before_optimizer_step`, callbacks would run first and see other gradients than the optimizer.
        """
        if self.trainer.accumulate_grad_batches > 1 and not self.trainer.fit_loop._should_accumulate():
            gradients = [local(p.grad) for _, p in self.pair.trainable() if p.grad is not None]
            self.step_mean.finish(gradients, self.trainer.accumulate_grad_batches)

    def on_validation_start(self) -> None:
        """Gather sharded weights: ranks may run different numbers of batches, so no collective may happen in one."""
        if is_sharded(self.pair):
            unshard(self.pair)

    def on_validation_end(self) -> None:
        """Free the gathered weights."""
        if is_sharded(self.pair):
            reshard(self.pair)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same losses on held-out pages, weighting each batch by the sum of its rows' weights."""
        losses = self.losses(batch)
        # Lightning wants integer weights, and divides by their sum
        weight = 0 if batch.idle else max(1, round(1000 * float(losses["weight"])))
        for name, value in losses.items():
            if value.ndim == 0 and name != "weight":
                self.log(f"val/{name}", value, prog_bar=name == "loss", batch_size=weight, sync_dist=True)

    @cached_property
    def frozen_sha256(self) -> str:
        """Hash of the frozen parameters as they were loaded, computed once."""
        return self.pair.frozen_digest()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the trainable parameters, and a hash of the frozen ones."""
        trains = {f"pair.{name}" for name, _ in self.pair.trainable()}
        state: Mapping[str, Tensor] = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if name in trains}
        checkpoint["frozen_sha256"] = self.frozen_sha256
        checkpoint["step_mean"] = vars(self.step_mean).copy()  # of an unfinished accumulation step

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another frozen base, or of other trainable tensors."""
        expected = checkpoint.get("frozen_sha256")
        if expected is not None and expected != self.frozen_sha256:
            raise UserError(
                f"The checkpoint was trained on another base than {self.folder.path} (frozen weights differ).\n"
                "Give the --model.checkpoint and compressor of the run that wrote it."
            )
        vars(self.step_mean).update(checkpoint.get("step_mean", {}))
        for state in checkpoint.get("optimizer_states", []):  # in 0.1.0, both groups of a part had the same name
            for group, saved in zip(self.parameter_groups(), state["param_groups"], strict=False):
                saved["name"] = group["name"]
        trains = {f"pair.{name}" for name, _ in self.pair.trainable()}
        differing = sorted(trains ^ set(checkpoint["state_dict"]))
        if differing:
            raise UserError(
                f"The checkpoint and this model train different tensors, such as {differing[0]!r}.\n"
                "Give the same model settings as the run that wrote it."
            )
