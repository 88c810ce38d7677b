"""Commands on the tiny world that experiments share: draw pages, train, test."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcot.reproduce.demo import CONFIGS, TEACHER
from fcot.reproduce.runner import Command

BATCH = 32
PASSES = 2  # over the training pages in a run
EVALUATED = 70  # test pages answered together: a sixth of the default number
SAVE = {"class_path": "SaveStudent"}


@dataclass(frozen=True)
class TinyRuns:
    """Makes the commands of an experiment.

    Attributes:
        precision: Of training and tests.
        options: Further options of every training and test.
    """

    precision: str
    options: tuple[str, ...] = ()

    def draw(self, root: Path, recipe: str, seed: int, **pages: int) -> Command:
        """Return what draws the given numbers of pages of each split."""
        counts = {"train": 0, "dev": 0, "test": 0} | pages
        sizes = [word for split, count in counts.items() for word in (f"--{split}", str(count))]
        words = ["shards", "build", "--output", str(root), "--recipe", recipe, *sizes, "--seed", str(seed)]
        last = [split for split, count in counts.items() if count][-1]
        return Command(f"Draw the pages of {root.name}", words, root / last / "manifest.json")

    def start(self, data: Path, folder: Path, steps: int) -> list[Command]:
        """Return what re-aligns the student that all runs start from, at half of the tokens.

        Args:
            data: Where its pages are drawn.
            folder: Of the run; the student lies in `student`.
            steps: Of re-alignment.
        """
        config = ["--config", str(CONFIGS / "realign_tiny.yaml"), "--model.checkpoint", TEACHER, "--model.ratio", "2"]
        return [
            self.draw(data, "reading", 0, train=max(1, steps * BATCH // PASSES)),
            Command(
                "Re-align the student that all start from",
                self.fit(config, data, folder, steps, 0, [SAVE]),
                folder / "student/config.json",
            ),
        ]

    def fit(
        self,
        config: Sequence[str],
        root: Path,
        folder: Path,
        steps: int,
        seed: int,
        callbacks: Sequence[dict[str, Any]],
        more: Sequence[str] = (),
    ) -> list[str]:
        """Return the words of a training, which goes on where it was stopped.

        Args:
            config: `--config FILE` and options of the model.
            root: Folder of the pages.
            folder: Of the run.
            steps: Of 32 pages each.
            seed: Of the run and of the order of its pages.
            callbacks: With class path and arguments.
            more: Further options.
        """
        length = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
        resumed = ["--trainer.checkpoint_every_n_steps", "50", "--ckpt_path", "last"]
        parts = ["--trainer.callbacks", json.dumps(list(callbacks)), "--data.batch_size", str(BATCH), *more]
        return ["fit", *config, *length, *parts, *self._shared(root, folder, seed), *resumed]

    def test(self, reason: str, model: Path, root: Path, folder: Path, label: str, seed: int) -> Command:
        """Return what scores a model on the test pages of a folder."""
        config = ["--config", str(CONFIGS / "sft_tiny.yaml"), "--model.checkpoint", str(model), "--model.label", label]
        size = ["--data.eval_batch_size", str(EVALUATED)]
        return Command(reason, ["test", *config, *size, *self._shared(root, folder, seed)], folder / "test.json")

    def _shared(self, root: Path, folder: Path, seed: int) -> list[str]:
        where = ["--data.root", str(root), "--data.recipe", "null", "--trainer.default_root_dir", str(folder)]
        seeds = ["--seed_everything", str(seed), "--data.seed", str(seed), "--data.num_workers", "0"]
        return [*where, *seeds, "--trainer.precision", self.precision, *self.options]
