"""The commands of `reproduce merging`: runs with two learning-rate schedules, their merges, and a test of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcot.reproduce.demo import CONFIGS
from fcot.reproduce.runner import Command
from fcot.reproduce.tiny_runs import BATCH, EVALUATED, PASSES, TinyRuns

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

    @property
    def make(self) -> TinyRuns:
        """Makes the commands."""
        return TinyRuns(self.settings.precision, self.settings.options)

    def pages(self) -> dict[str, list[Command]]:
        """Return what draws the pages and makes the student that all runs start from: two chains."""
        chosen, data = self.settings, self.output / "pages"
        train = max(1, chosen.steps * BATCH // PASSES)
        drawn = [self.make.draw(data / "test", "questions", 0, test=chosen.test_pages)]
        drawn += [
            self.make.draw(data / f"seed{seed}", "questions", seed, train=train, dev=chosen.dev_pages)
            for seed in range(chosen.seeds)
        ]
        return {"start": self.make.start(data / "reading", self.output / "start", chosen.start_steps), "pages": drawn}

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
            words = self.make.fit(config, root, folder, self.settings.steps, int(seed), keep)
            last = folder / f"snapshots/step-{self.settings.steps:06d}/config.json"
            merged = folder / "merged/merge.json"
            merge = ["merge", str(folder), "--each", str(folder / "each"), "--overwrite", "true"]
            work[name] = [
                Command(f"Train with a {schedule} learning rate, seed {seed}", words, last),
                Command(f"Merge its snapshots by every method: {name}", merge, merged),
                *(self._test(name, method, int(seed)) for method in self.settings.tested),
            ]
        return work

    def _test(self, name: str, method: str, seed: int) -> Command:
        model = self.folder_of(name) / ("merged" if method == AUTO else f"each/{method}")
        root, folder, label = self.output / "pages/test", self.tested(name, method), f"{name} {method}"
        return self.make.test(f"Test {method} of {name}", model, root, folder, label, seed)
