"""Pages with their question, reference and answers, for a person to read while a model trains."""

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional

from fcot.batch import Batch
from fcot.errors import UserError
from fcot.models.branches import STUDENT, TEACHER
from fcot.runtime.run_folder import run_folder
from fcot.training.base_task import BaseTask

UNLIKE = 10.0  # mean grey levels; drawn pages are within 6 of their thumbnail, wrong grids 13 and more away


def page_picture(tiles: Tensor, side: int) -> Tensor:
    """Put the tiles of a sample together to the page they were cut from.

    A batch does not say how a page was cut. But the last of several tiles is the page's thumbnail, so the grid is
    the one that looks like it when made small. If none does, there were several images: all tiles in a row.

    Args:
        tiles: uint8 `[tiles, 3, S, S]`, at least one.
        side: Largest side of a tile in the picture, in pixels.

    Returns:
        uint8 `[3, height, width]`.
    """
    cells = tiles[:-1]
    row = torch.cat(list(tiles), dim=-1)
    pages = {
        # [rows, columns, 3, S, S] to [3, rows · S, columns · S]
        number: cells.unflatten(0, (number, -1)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
        for number in range(1, len(cells) + 1)
        if len(cells) % number == 0
    }
    unlike = {
        number: float((_resized(page, *tiles.shape[-2:]) - tiles[-1].float()).abs().mean())
        for number, page in pages.items()
    }
    best = min(unlike, key=unlike.__getitem__, default=0)
    page = pages[best] if pages and unlike[best] < UNLIKE else row
    scale = min(1.0, side / tiles.shape[-1])
    height, width = (max(1, round(length * scale)) for length in page.shape[-2:])
    return _resized(page, height, width).round().clamp(0, 255).to(torch.uint8)


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    return functional.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]


def as_markdown(line: Mapping[str, Any]) -> str:
    """Return a line of `predictions.jsonl` as markdown; texts stand indented, so they are shown as they are."""
    parts = [f"**{line['task']}**, page {line['key']} of {line['split']}, after {line['step']} steps"]
    names = ("question", "reference", "teacher", *(name for name in line if name.startswith(STUDENT)))
    for name in names:
        if line[name] is not None:
            parts.append(f"{name}:\n\n{indent(line[name] or '(nothing)', '    ')}")
    return "\n\n".join(parts)


class Predictions(Callback):
    """Shows the answers of the teacher and of each student on a few pages, at validation and in tests.

    The pages are the same each time: the first of every task, then more of the first batch. They are appended to
    `predictions.jsonl` in the run's folder and shown in TensorBoard, if that is where the run is logged.

    Args:
        every_n_validations: Show pages at the first of every so many validations.
        pages: How many pages.
        thumbnail: Largest side of a tile in a picture, in pixels; a page is as many times larger as it has tiles.
    """

    def __init__(self, every_n_validations: int = 1, pages: int = 4, thumbnail: int = 224) -> None:
        super().__init__()
        self.every_n_validations, self.pages, self.thumbnail = every_n_validations, pages, thumbnail
        self._validations = 0
        self._missing = 0
        self._folder: Path | None = None
        self._chosen: list[Batch] = []
        self._spare: Batch | None = None
        self._teacher: dict[tuple[str, str], str] = {}  # by split and key: the teacher does not change

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module that cannot answer."""
        if not isinstance(pl_module, BaseTask):
            raise UserError(
                f"Predictions needs a module that answers questions about pages; {type(pl_module).__name__} is none.\n"
                "Use fcot.Realign or fcot.SFT, or leave the callback out."
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to choose pages."""
        if not trainer.sanity_checking:
            self._start(trainer, active=self._validations % self.every_n_validations == 0)
            self._validations += 1

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to choose pages."""
        self._start(trainer, active=True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Choose pages of the batch."""
        self._choose(batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the chosen pages and show them."""
        self._show(trainer, pl_module, split="dev")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the chosen pages and show them."""
        self._show(trainer, pl_module, split="test")

    def _start(self, trainer: Trainer, *, active: bool) -> None:
        self._folder = None if trainer.fast_dev_run else run_folder(trainer)  # type: ignore[attr-defined]
        self._chosen, self._spare = [], None
        self._missing = self.pages if active and trainer.is_global_zero else 0

    def _choose(self, batch: Batch) -> None:
        student = batch.sequences.get(STUDENT)
        if not self._missing or batch.idle or student is None or student.prompt_ids is None:
            return
        shown = {task for chosen in self._chosen for task in chosen.tasks}
        new = [i for i, task in enumerate(batch.tasks) if task not in {*shown, *batch.tasks[:i]}][: self._missing]
        rest = [i for i in range(len(batch)) if i not in new][: self._missing - len(new)]
        if not self._chosen and rest:
            self._spare = batch.take(rest)
        if new:
            self._chosen.append(batch.take(new))
            self._missing -= len(new)

    def _show(self, trainer: Trainer, module: LightningModule, *, split: str) -> None:
        if self._missing and self._spare is not None:
            self._chosen.append(self._spare.take(range(min(self._missing, len(self._spare)))))
        number = 0
        for batch in self._chosen:
            tiles = batch.tiles.split(batch.num_tiles.tolist())
            for line, page in zip(self._read(trainer, module, batch, split), tiles, strict=True):
                number += 1
                self._write(trainer, line, page, tag=f"{split}_pages/{number}")
        self._chosen, self._spare, self._missing = [], None, 0

    def _read(self, trainer: Trainer, module: LightningModule, batch: Batch, split: str) -> list[dict[str, Any]]:
        assert isinstance(module, BaseTask)
        names = [(split, key) for key in batch.keys]
        has_teacher = module.pair.teacher_projector is not None and TEACHER in batch.sequences
        with trainer.precision_plugin.val_step_context():
            students = {branch: module.answers(batch, branch) for branch in module.branches}
            if has_teacher and not self._teacher.keys() >= set(names):
                self._teacher.update(zip(names, module.answers(batch, TEACHER), strict=True))
        return [
            {
                "step": trainer.global_step,
                "split": split,
                "key": batch.keys[i],
                **({"id": batch.ids[i]} if batch.ids and batch.ids[i] is not None else {}),
                "task": batch.tasks[i],
                "question": batch.questions[i],
                "reference": batch.references[i][0],
                "teacher": self._teacher[names[i]] if has_teacher else None,
                **{branch: answers[i] for branch, answers in students.items()},
            }
            for i in range(len(batch))
        ]

    def _write(self, trainer: Trainer, line: dict[str, Any], tiles: Tensor, *, tag: str) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "predictions.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                if len(tiles):
                    logger.experiment.add_image(tag, page_picture(tiles, self.thumbnail), line["step"])
                logger.experiment.add_text(tag, as_markdown(line), line["step"])
