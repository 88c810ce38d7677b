"""The commands of `reproduce merging`: runs with two learning-rate schedules, their merges, and a test of each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcot.reproduce.demo import CONFIGS, TEACHER
from fcot.reproduce.runner import Command

SCHEDULES = ("cosine", "constant")
LAST = "final"  # the method that keeps the last snapshot
AUTO = "auto"  # what a merge keeps unless it is told what to keep
METHODS = (
    LAST,
    "best_single",
    "average",
    "tail_average",
    "exponential_average",
    "task_arithmetic_mean",
    "task_arithmetic_sum",
    "greedy_soup",
    "random_search",
    "shapley",
    "banzhaf",
    "ties",
    "dare",
)
BATCH = 32
PASSES = 2  # over the training pages in a run
EVALUATED = 70  # pages answered together


@dataclass(frozen=True)
class Settings:
    """What the experiment depends on.

    Attributes:
        seeds: Runs of each schedule.
        steps: Steps of a run, of 32 pages each.
        start_steps: Steps of re-alignment that all runs start from.
        snapshots: Snapshots of a run.
        after: Share of a run's steps after which they are taken.
        dev_pages: Dev pages of a seed.
        test_pages: Test pages, the same for all runs.
        precision: Of training and tests.
        methods: Methods that are tested, besides "auto" and the last snapshot.
        options: Further options of every training and test.
    """

    seeds: int
    steps: int
    start_steps: int
    snapshots: int
    after: float
    dev_pages: int
    test_pages: int
    precision: str
    methods: tuple[str, ...] = METHODS
    options: tuple[str, ...] = ()

    @property
    def tested(self) -> list[str]:
        """The methods that are tested, each once."""
        return [*dict.fromkeys((AUTO, LAST, *self.methods))]


@dataclass(frozen=True)
class Plan:
    """The commands of the experiment.

    Attributes:
        settings: What they depend on.
        output: Folder of the runs, and of their pages.
    """

    settings: Settings
    output: Path

    @property
    def names(self) -> list[str]:
        """Names of the runs, such as "constant-0"."""
        return [f"{schedule}-{seed}" for seed in range(self.settings.seeds) for schedule in SCHEDULES]

    def folder_of(self, name: str) -> Path:
        """Return the folder of a run."""
        return self.output / name

    def tested(self, name: str, method: str) -> Path:
        """Return the folder of the test of what a method made of a run's snapshots."""
        return self.folder_of(name) / "tests" / method

    def pages(self) -> dict[str, list[Command]]:
        """Return what draws the pages and makes the student that all runs start from: two chains."""
        chosen, data = self.settings, self.output / "pages"
        drawn = [draw(data / "test", "questions", 0, test=chosen.test_pages)]
        train = max(1, chosen.steps * BATCH // PASSES)
        drawn += [
            draw(data / f"seed{seed}", "questions", seed, train=train, dev=chosen.dev_pages)
            for seed in range(chosen.seeds)
        ]
        reading = draw(data / "reading", "reading", 0, train=max(1, chosen.start_steps * BATCH // PASSES))
        config = ["--config", str(CONFIGS / "realign_tiny.yaml"), "--model.checkpoint", TEACHER, "--model.ratio", "2"]
        save = [{"class_path": "SaveStudent"}]
        words = self._fit(config, data / "reading", self.output / "start", chosen.start_steps, 0, save)
        aligned = Command("Re-align the student that all start from", words, self.output / "start/student/config.json")
        return {"start": [reading, aligned], "pages": drawn}

    def runs(self) -> dict[str, list[Command]]:
        """Return of each run its training, the merge of its snapshots, and a test of what each method made."""
        work = {}
        start = ["--config", str(CONFIGS / "sft_tiny.yaml"), "--model.checkpoint", str(self.output / "start/student")]
        taken = {"count": self.settings.snapshots, "after": self.settings.after}
        for name in self.names:
            schedule, seed = name.split("-")
            folder, root = self.folder_of(name), self.output / f"pages/seed{seed}"
            config = [*start, "--model.lr_schedule", schedule, "--data.eval_batch_size", str(EVALUATED)]
            keep: list[dict[str, Any]] = [
                {"class_path": "Snapshots", "init_args": taken},
                {"class_path": "SkippedSamples"},
            ]
            words = self._fit(config, root, folder, self.settings.steps, int(seed), keep)
            last = folder / f"snapshots/step-{self.settings.steps:06d}/config.json"
            merged = folder / "merged/merge.json"
            merge = ["merge", str(folder), "--each", str(folder / "each"), "--overwrite", "true"]
            work[name] = [
                Command(f"Train with a {schedule} learning rate, seed {seed}", words, last),
                Command(f"Merge its snapshots by every method: {name}", merge, merged),
                *(self._test(name, method, int(seed)) for method in self.settings.tested),
            ]
        return work

    def _fit(
        self, config: list[str], root: Path, folder: Path, steps: int, seed: int, callbacks: list[dict[str, Any]]
    ) -> list[str]:
        length = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
        resumed = ["--trainer.checkpoint_every_n_steps", "50", "--ckpt_path", "last"]
        parts = ["--trainer.callbacks", json.dumps(callbacks), "--data.batch_size", str(BATCH)]
        return ["fit", *config, *length, *parts, *self._shared(root, folder, seed), *resumed]

    def _test(self, name: str, method: str, seed: int) -> Command:
        folder = self.tested(name, method)
        model = self.folder_of(name) / ("merged" if method == AUTO else f"each/{method}")
        config = ["--config", str(CONFIGS / "sft_tiny.yaml"), "--model.checkpoint", str(model)]
        config += ["--model.label", f"{name} {method}", "--data.eval_batch_size", str(EVALUATED)]
        words = ["test", *config, *self._shared(self.output / "pages/test", folder, seed)]
        return Command(f"Test {method} of {name}", words, folder / "test.json")

    def _shared(self, root: Path, folder: Path, seed: int) -> list[str]:
        where = ["--data.root", str(root), "--data.recipe", "null", "--trainer.default_root_dir", str(folder)]
        seeds = ["--seed_everything", str(seed), "--data.seed", str(seed), "--data.num_workers", "0"]
        return [*where, *seeds, "--trainer.precision", self.settings.precision, *self.settings.options]


def draw(root: Path, recipe: str, seed: int, **pages: int) -> Command:
    """Return what draws the given numbers of pages of each split."""
    counts: Mapping[str, int] = {"train": 0, "dev": 0, "test": 0} | pages
    sizes = [word for split, count in counts.items() for word in (f"--{split}", str(count))]
    words = ["shards", "build", "--output", str(root), "--recipe", recipe, *sizes, "--seed", str(seed)]
    last = [split for split, count in counts.items() if count][-1]
    return Command(f"Draw the pages of {root.name}", words, root / last / "manifest.json")
