"""Read pages with a module's models: answers and scores, and files of them for each student."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from fcot.batch import Batch, PageLayout
from fcot.evaluation.records import Evaluation, Record, print_further, print_table
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.drawn_tokens import DrawnTokens
from fcot.internvl.tokens import TileTokens
from fcot.models.branches import named
from fcot.models.reduced_pages import Left
from fcot.models.sampling import GREEDY, Sampling
from fcot.models.student_teacher import StudentTeacher, answer_labels, answer_samples
from fcot.models.token_counts import TokenCounts
from fcot.reduce import FewerTiles, Reducer
from fcot.runtime.run_folder import run_folder


class PageReader(LightningModule, ABC):
    """Answers questions about pages, and scores the answers.

    Attributes:
        pair: The models.
        folder: The model folder they are loaded from.
        has_teacher: Whether a batch has a branch for the teacher.
        max_length: Longest sequence in tokens; None is the model's limit.
        control_tokens: What a control token in a text is; None is as the model's configuration says.
        max_tiles: Most tiles of an image; None is the model's limit.
        max_new_tokens: Longest answer in tokens.
        sampling: How answers are drawn.
        reducer: What drops visual tokens while answers are generated.
        reducer_settings: Its name and options.
        metrics: Names of each task's metrics.
        label: Name of this stage in tables.
    """

    pair: StudentTeacher
    folder: ModelFolder
    has_teacher: bool
    max_length: int | None
    control_tokens: str | None = None
    max_tiles: int | None
    max_new_tokens: int
    sampling: Sampling
    reducer: Reducer | None
    reducer_settings: dict[str, Any]
    metrics: dict[str, list[str]]
    label: str

    @property
    @abstractmethod
    def ratio(self) -> int:
        """How many visual tokens become one in the student."""

    @property
    def branches(self) -> dict[str, int]:
        """Branch of each student, with its ratio."""
        return {"student": self.ratio}

    @property
    def configs(self) -> dict[str, Any]:
        """The configuration of each student, by branch."""
        return {"student": self.folder.config}

    @property
    def saved_branches(self) -> list[str]:
        """Branches of the students that are saved, each as a folder; ratios of an elastic student are one."""
        return list(self.branches)

    @property
    def drawn_tokens(self) -> dict[str, DrawnTokens]:
        """Visual tokens of branches for which training draws them, by branch."""
        return {}

    @cached_property
    def layout(self) -> PageLayout:
        """What the data side needs to prepare pages for this module."""
        tokens: dict[str, TileTokens] = {"teacher": TokenCounts(self.folder.config)} if self.has_teacher else {}
        tokens |= {branch: TokenCounts(config) for branch, config in self.configs.items()}
        return PageLayout(
            encoder=self.folder.encoder(self.max_length, self.control_tokens),
            tile_size=self.folder.tile_size,
            max_tiles=self.max_tiles or self.folder.max_tiles,
            limit=self._tile_limit,
            tokens_per_tile={**tokens, **self.drawn_tokens},
        )

    @property
    def _tile_limit(self) -> Callable[[int, int], int] | None:
        """The most tiles of a page by its size, where a reducer gives pages fewer."""
        if not isinstance(self.reducer, FewerTiles):
            return None
        most, size = self.max_tiles or self.folder.max_tiles, self.folder.tile_size
        return partial(self.reducer.limit, max_tiles=most, tile_size=size)

    def decode(self, ids: list[int]) -> str:
        """Return the text of generated ids."""
        text: str = self.folder.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def on_test_epoch_start(self) -> None:
        """Start an empty evaluation for each student."""
        self.evaluations = {branch: Evaluation(self.metrics) for branch in self.branches}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Read a batch of pages, score the answers, and return each student's records for callbacks."""
        return {"records": {branch: self.read(batch, scores, branch) for branch, scores in self.evaluations.items()}}

    def on_test_epoch_end(self) -> None:
        """Print the scores and save them to `test.json`, and all answers to `test.jsonl`.

        Further students have separate files, such as `test-r4.json`.
        """
        rows = []
        folder = self.run_folder()
        for branch, evaluation in self.evaluations.items():
            evaluation.gather()
            rows.append(self.score_row(evaluation, split="test", branch=branch))
            name = named("test", branch)
            for logger in self.loggers:  # self.log would print a second table
                logger.log_metrics({f"{name}/mean": rows[-1]["scores"]["mean"]["mean"]}, self.trainer.global_step)
            if self.trainer.is_global_zero:
                evaluation.write_records(folder / f"{name}.jsonl")
                (folder / f"{name}.json").write_text(json.dumps(rows[-1], indent=1) + "\n", encoding="utf-8")
        if self.trainer.is_global_zero:
            print_table(rows)
            for row in rows:
                print_further(row)

    def on_predict_epoch_start(self) -> None:
        """Delete answers of earlier runs."""
        for file in self.prediction_files().values():
            file.unlink(missing_ok=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, list[str]]:
        """Answer a batch with each student and append the answers to `predict.jsonl` in the run folder.

        Further students have separate files, such as `predict-r4.jsonl`.
        """
        drawn = {branch: self.drawn(batch, branch) for branch in self.branches}
        answers = {branch: [first for first, *_ in each] for branch, each in drawn.items()}
        if batch.idle:
            return {branch: [] for branch in answers}
        for branch, file in self.prediction_files().items():
            rows = zip(batch.keys, batch.tasks, batch.questions, answers[branch], strict=True)
            named_rows: list[dict[str, Any]] = [
                dict(zip(("key", "task", "question", "prediction"), row, strict=True)) for row in rows
            ]
            for row, own in zip(named_rows, batch.ids, strict=False):
                row |= {} if own is None else {"id": own}
            several = self.sampling.num_answers > 1
            lines = (
                row | ({"more_predictions": more} if several else {})
                for row, (_, *more) in zip(named_rows, drawn[branch], strict=True)
            )
            with file.open("a", encoding="utf-8") as out:
                out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        return answers

    def prediction_files(self) -> dict[str, Path]:
        """Return the file of each student's answers, by branch."""
        folder = self.run_folder()
        return {branch: folder / f"{named('predict', branch)}{self.rank_suffix}.jsonl" for branch in self.branches}

    @property
    def rank_suffix(self) -> str:
        """Return "" for a single process, "-3" for the fourth of several."""
        return f"-{self.global_rank}" if self.trainer.world_size > 1 else ""

    def run_folder(self) -> Path:
        """Return the run folder, created if missing."""
        folder = run_folder(self.trainer)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, batch: Batch, evaluation: Evaluation, branch: str = "student") -> list[Record]:
        """Read a batch of pages and add the scored answers to an evaluation."""
        left: list[Left] = []
        drawn = self.drawn(batch, branch, left=left)
        if batch.idle:
            return []
        return evaluation.add(
            keys=batch.keys,
            tasks=batch.tasks,
            questions=batch.questions,
            references=batch.references,
            predictions=[first for first, *_ in drawn],
            ids=batch.ids,
            more_predictions=[more for _, *more in drawn],
            left=[asdict(each) for each in left] or None,
            visual_tokens=batch.visual_tokens(branch),
        )

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluate in the run's precision inside this context, outside of the trainer's own loops."""
        training = self.training
        self.eval()
        precise = self.trainer.precision_plugin.val_step_context() if self._trainer else nullcontext()
        try:
            with precise:
                yield
        finally:
            self.train(training)

    @torch.no_grad()
    def evaluate(self, loader: Iterable[Batch]) -> Evaluation:
        """Read all pages of a loader in evaluation mode, and return this process's scored answers."""
        evaluation = Evaluation(self.metrics)
        with self.evaluating():
            for batch in loader:
                self.read(batch.to(self.device), evaluation)
        return evaluation

    @torch.no_grad()
    def token_accuracy(self, loader: Iterable[Batch]) -> float:
        """Return the teacher-forced accuracy of answer tokens, averaged over tasks."""
        right: dict[str, list[Tensor]] = {}
        with self.evaluating():
            for batch in (batch.to(self.device) for batch in loader):
                sequences = batch.sequences["student"]
                predicted = nn.functional.linear(self.pair.student_rows(batch), self.pair.head_weight).argmax(-1)
                hits, samples = predicted == answer_labels(sequences), answer_samples(sequences)
                for sample, task in enumerate(batch.tasks):
                    right.setdefault(task, []).append(hits[samples == sample])
        return float(torch.stack([torch.cat(hits).double().mean() for hits in right.values()]).mean())

    def score_row(self, evaluation: Evaluation, *, split: str, branch: str = "student") -> dict[str, Any]:
        """Return a row for a table of scores."""
        return {
            "model": self.folder.path.name,
            "ratio": self.branches[branch],
            "stage": self.label,
            "split": split,
            "seed": int(os.environ.get("PL_GLOBAL_SEED", "0")),
            **({} if self.sampling == GREEDY else {"sampling": asdict(self.sampling)}),
            **self._reduced(evaluation),
            **evaluation.summary(),
        }

    def _reduced(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return what a row says of a reducer: its settings, and the mean visual tokens of a page that it leaves.

        `kept` counts those at the last layer of the language model, `equivalent` is the mean over its layers.
        """
        if self.reducer is None:
            return {}
        left = [
            # one that gives pages fewer tiles leaves those tiles whole
            record.left or dict.fromkeys(("kept", "equivalent"), record.visual_tokens)
            for record in evaluation.records
        ]
        means = {name: mean(each[name] for each in left) for name in ("kept", "equivalent")}
        return {"reduce": self.reducer_settings, **means}

    @torch.no_grad()
    def answers(self, batch: Batch, branch: str = "student") -> list[str]:
        """Generate and decode one answer to each prompt of a batch."""
        one = replace(self.sampling, num_answers=1)
        return [first for (first,) in self.drawn(batch, branch, one)]

    @torch.no_grad()
    def drawn(
        self,
        batch: Batch,
        branch: str = "student",
        sampling: Sampling | None = None,
        left: list[Left] | None = None,
    ) -> list[list[str]]:
        """Read a batch of pages and return the answers to each prompt, as many as `sampling` says.

        Args:
            batch: With prompts.
            branch: Which model answers.
            sampling: How to draw (default: the module's own).
            left: Is given what a reducer leaves of each prompt.
        """
        sampling = sampling or self.sampling
        rows, number = (
            self.pair.answer(batch, branch, sampling, self.reducer, left, max_new_tokens=self.max_new_tokens),
            sampling.num_answers,
        )
        groups = (rows[start : start + number] for start in range(0, len(rows), number))
        return [[self.decode(ids) for ids in each] for each in groups]
