"""What re-alignment and post-training share as LightningModules."""

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from fcot.batch import Batch, PageLayout
from fcot.convert.on_the_way import native_folder
from fcot.errors import UserError
from fcot.evaluation import Evaluation, Record, print_table
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tokens import tokens_per_tile
from fcot.metrics import metric_by_name
from fcot.pair import StudentTeacher, answer_labels, answer_samples, part_of
from fcot.reduction import StepMean, over_processes
from fcot.schedule import warmup_cosine

Parameters = Iterable[nn.Parameter] | list[dict[str, Any]]


class PageModule(LightningModule, ABC):
    """Trains a student in a `StudentTeacher` on batches of pages.

    A subclass says how the container is built, which parts learn and what the loss is.

    Args:
        checkpoint: Model folder to start from; one in the original layout is converted first, to CHECKPOINT-native.
        optimizer: Optimizer of the parameters that learn (default: AdamW).
        warmup: Warm-up steps if 1 or more, otherwise their share of all steps.
        lr_floor: Share of the peak learning rate that remains at the end.
        max_length: Longest sequence in tokens, visual tokens of the teacher counted (default: the model's).
        max_tiles: Most tiles of an image, thumbnail not counted (default: the model's).
        max_new_tokens: Longest answer that is generated in tests and predictions.
        metrics: Metrics of each task, the one that counts first, "*" for tasks not named (default: anls).
        label: Name of this stage in tables (default: the class's).
    """

    pair: StudentTeacher
    stage: str
    has_teacher: bool
    lr_scale: Mapping[str, float] = MappingProxyType({})  # factor on the learning rate of a part

    def __init__(
        self,
        checkpoint: Path,
        *,
        optimizer: Callable[[Parameters], Optimizer] = AdamW,
        warmup: float = 0.03,
        lr_floor: float = 0.0,
        max_length: int | None = None,
        max_tiles: int | None = None,
        max_new_tokens: int = 256,
        metrics: dict[str, list[str]] | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.folder = ModelFolder(native_folder(Path(checkpoint)))
        self.make_optimizer = optimizer
        self.warmup, self.lr_floor = warmup, lr_floor
        self.max_length, self.max_tiles = max_length, max_tiles
        self.max_new_tokens = max_new_tokens
        self.metrics = metrics or {"*": ["anls"]}
        for name in {name for names in self.metrics.values() for name in names}:
            metric_by_name(name)  # an unknown name is an error now, not after hours of training
        self.label = label or self.stage
        self.step_mean = StepMean()
        self.strict_loading = False  # checkpoints hold what trains, not what is frozen

    # -- what a subclass provides ------------------------------------------------------------------------

    @abstractmethod
    def build(self) -> StudentTeacher:
        """Build the container and set which parts learn."""

    @property
    @abstractmethod
    def ratio(self) -> int:
        """How many visual tokens become one in the student."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return "loss" with its gradient, further means to log, "ce_rows" `[answers]`, and the "weight" of the means.

        Means are over this process's answer rows; the weight is the sum of those rows' weights.
        """

    @property
    def sides(self) -> dict[str, int]:
        """Sides of a batch that students read, and the ratio of each."""
        return {"student": self.ratio}

    # -- shared ------------------------------------------------------------------------------------------

    @cached_property
    def layout(self) -> PageLayout:
        """What the data side needs to prepare pages for this module."""
        config = self.folder.config
        return PageLayout(
            encoder=self.folder.encoder(self.max_length),
            tile_size=self.folder.tile_size,
            max_tiles=self.max_tiles or self.folder.max_tiles,
            tokens_per_tile={
                **({"teacher": tokens_per_tile(config)} if self.has_teacher else {}),
                **{side: tokens_per_tile(config, ratio) for side, ratio in self.sides.items()},
            },
        )

    def configure_model(self) -> None:
        """Load the weights, once."""
        if not hasattr(self, "pair"):
            self.pair = self.build().train()  # from_pretrained leaves evaluation mode, and Lightning keeps it
            if self._trainer is not None and self.trainer.precision == "bf16-mixed":
                self.pair.keep_frozen_in(torch.bfloat16)  # autocast would convert it anew at each step

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimizer and schedule; the schedule ends at `trainer.max_steps`."""
        steps = self.trainer.max_steps
        if steps < 1:
            raise UserError(
                f"trainer.max_steps is {steps}, and the schedule must know its end.\n"
                "Set --trainer.max_steps, for one pass: samples / (batch size x accumulation x devices)."
            )
        optimizer = self.make_optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= self.lr_scale.get(group["name"], 1.0)
        schedule = warmup_cosine(optimizer, warmup=self.warmup, total_steps=steps, floor=self.lr_floor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what trains, by part, without weight decay on vectors (norms and biases)."""
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.pair.trainable():
            groups.setdefault((part_of(name), parameter.ndim > 1), []).append(parameter)
        return [
            {"params": params, "name": part, **({} if decay else {"weight_decay": 0.0})}
            for (part, decay), params in groups.items()
        ]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the loss of a batch, and its rows by sample for callbacks."""
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

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Have a step of several batches be the mean over all their answer tokens."""
        if self.trainer.accumulate_grad_batches > 1:
            gradients = [p.grad for _, p in self.pair.trainable() if p.grad is not None]
            self.step_mean.finish(gradients, self.trainer.accumulate_grad_batches)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the same losses on held-out pages, weighted by answer tokens."""
        losses = self.losses(batch)
        rows = 0 if batch.idle else max(1, len(answer_labels(batch.sequences["student"])))
        for name, value in losses.items():
            if value.ndim == 0 and name != "weight":
                self.log(f"val/{name}", value, prog_bar=name == "loss", batch_size=rows, sync_dist=True)

    @cached_property
    def frozen_sha256(self) -> str:
        """Hash of what is frozen, computed once: it does not change."""
        return self.pair.frozen_digest()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains, and a hash of what is frozen."""
        trains = {f"pair.{name}" for name, _ in self.pair.trainable()}
        state: Mapping[str, Tensor] = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if name in trains}
        checkpoint["frozen_sha256"] = self.frozen_sha256
        checkpoint["step_mean"] = vars(self.step_mean).copy()  # of a step that is not over

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another frozen base, or of other trained tensors."""
        expected = checkpoint.get("frozen_sha256")
        if expected is not None and expected != self.frozen_sha256:
            raise UserError(
                f"The checkpoint was trained on another base than {self.folder.path} (frozen weights differ).\n"
                "Give the --model.checkpoint and compressor of the run that wrote it."
            )
        vars(self.step_mean).update(checkpoint.get("step_mean", {}))
        trains = {f"pair.{name}" for name, _ in self.pair.trainable()}
        differing = sorted(trains ^ set(checkpoint["state_dict"]))
        if differing:
            raise UserError(
                f"The checkpoint and this model train different tensors, {differing[0]!r} for one.\n"
                "Give the same model settings as the run that wrote it."
            )

    def decode(self, ids: list[int]) -> str:
        """Return the text of generated ids."""
        text: str = self.folder.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def on_test_epoch_start(self) -> None:
        """Start counting."""
        self.evaluations = {side: Evaluation(self.metrics) for side in self.sides}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Read a batch of pages and score the answers; the records, those of the first student, are for callbacks."""
        records = {side: self.read(batch, evaluation, side) for side, evaluation in self.evaluations.items()}
        return {"records": records["student"]}

    def on_test_epoch_end(self) -> None:
        """Print the scores and save them: `test.json`, and every answer in `test.jsonl`.

        Further students have files of their own, `test-r4.json` say.
        """
        rows = []
        folder = self.run_folder()  # asks all processes, so not of one alone
        for side, evaluation in self.evaluations.items():
            evaluation.gather()
            rows.append(self.score_row(evaluation, split="test", side=side))
            name = side.replace("student", "test")
            for logger in self.loggers:  # self.log would print a second table
                logger.log_metrics({f"{name}/mean": rows[-1]["scores"]["mean"]["mean"]}, self.trainer.global_step)
            if self.trainer.is_global_zero:
                evaluation.write_records(folder / f"{name}.jsonl")
                (folder / f"{name}.json").write_text(json.dumps(rows[-1], indent=1) + "\n")
        if self.trainer.is_global_zero:
            print_table(rows)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[str]:
        """Answer a batch and append the answers to `predict.jsonl` in the run folder."""
        answers = self.answers(batch)
        if batch.idle:
            return []
        rows = zip(batch.keys, batch.tasks, batch.questions, answers, strict=True)
        with (self.run_folder() / f"predict{self.rank_suffix}.jsonl").open("a", encoding="utf-8") as file:
            for key, task, question, answer in rows:
                line = {"key": key, "task": task, "question": question, "prediction": answer}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return answers

    def on_predict_start(self) -> None:
        """Start the file anew."""
        (self.run_folder() / f"predict{self.rank_suffix}.jsonl").unlink(missing_ok=True)

    @property
    def rank_suffix(self) -> str:
        """Return "" for a single process, "-3" for the fourth of several."""
        return f"-{self.global_rank}" if self.trainer.world_size > 1 else ""

    def run_folder(self) -> Path:
        """Return the run folder, made if missing."""
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, batch: Batch, evaluation: Evaluation, side: str = "student") -> list[Record]:
        """Read a batch of pages and add the scored answers to an evaluation."""
        start = time.perf_counter()
        predictions = self.answers(batch, side)
        if batch.idle:
            return []
        seconds = time.perf_counter() - start
        tokens = batch.num_tiles * self.layout.tokens_per_tile[side]
        return evaluation.add(
            keys=batch.keys,
            tasks=batch.tasks,
            questions=batch.questions,
            references=batch.references,
            predictions=predictions,
            visual_tokens=tokens.tolist(),
            seconds=seconds,
        )

    @torch.no_grad()
    def evaluate(self, loader: Iterable[Batch]) -> Evaluation:
        """Read all pages of a loader in evaluation mode and return the scored answers of this process."""
        evaluation = Evaluation(self.metrics)
        training = self.training
        self.eval()
        try:
            for batch in loader:
                self.read(batch.to(self.device), evaluation)
        finally:
            self.train(training)
        return evaluation

    @torch.no_grad()
    def token_accuracy(self, loader: Iterable[Batch]) -> float:
        """Return the share of answer tokens predicted right after the reference's own, a mean over tasks."""
        right: dict[str, list[Tensor]] = {}
        training = self.training
        self.eval()
        try:
            for batch in (batch.to(self.device) for batch in loader):
                sequences = batch.sequences["student"]
                predicted = nn.functional.linear(self.pair.student_rows(batch), self.pair.head_weight).argmax(-1)
                hits, samples = predicted == answer_labels(sequences), answer_samples(sequences)
                for sample, task in enumerate(batch.tasks):
                    right.setdefault(task, []).append(hits[samples == sample])
        finally:
            self.train(training)
        return float(torch.stack([torch.cat(hits).double().mean() for hits in right.values()]).mean())

    def score_row(self, evaluation: Evaluation, *, split: str, side: str = "student") -> dict[str, Any]:
        """Return one row of a table of scores."""
        return {
            "model": self.folder.path.name,
            "ratio": self.sides[side],
            "stage": self.label,
            "split": split,
            "seed": int(os.environ.get("PL_GLOBAL_SEED", "0")),
            **evaluation.summary(),
        }

    @torch.no_grad()
    def answers(self, batch: Batch, side: str = "student") -> list[str]:
        """Read a batch of pages: generate and decode an answer for each prompt."""
        rows = self.pair.answer(batch, side, max_new_tokens=self.max_new_tokens)
        return [self.decode(ids) for ids in rows]
