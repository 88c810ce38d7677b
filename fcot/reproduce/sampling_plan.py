"""The commands of `reproduce sampling`: coarse runs, weights, and a run for each arm and seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcot.files.json_files import read_json, write_json
from fcot.reproduce.demo import CONFIGS, TEACHER
from fcot.reproduce.runner import Command
from fcot.reproduce.tiny_runs import BATCH, PASSES, SAVE, TinyRuns

ARMS = {"U": "uniform", "L": "by loss (the paper's rule)", "E": "by excess over the teacher", "P": "placebo"}
WEIGHTS_OF = {"L": "weights_by_loss", "E": "weights"}  # in what the coarse run writes


@dataclass(frozen=True)
class Settings:
    """What the experiment depends on.

    Attributes:
        seeds: Runs of each arm; each seed has training and dev pages, an order and placebo weights of its own.
        steps: Steps of a fine run, of 32 pages each.
        coarse_steps: Steps of the run that weights are computed from.
        start_steps: Steps of re-alignment that all runs start from.
        coarse_share: Share of a seed's training pages that its coarse run reads.
        dev_pages: Dev pages of a coarse run.
        test_pages: Test pages, the same for all runs.
        dev_tokens: Whose loss is measured on dev pages: conclusion or answer.
        precision: Of training and tests.
        options: Further options of every run.
    """

    seeds: int
    steps: int
    coarse_steps: int
    start_steps: int
    coarse_share: float
    dev_pages: int
    test_pages: int
    dev_tokens: str
    precision: str
    options: tuple[str, ...] = ()

    @property
    def pages(self) -> int:
        """Training pages of a seed."""
        return max(1, self.steps * BATCH // PASSES)


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
    def data(self) -> Path:
        """Where pages are drawn."""
        return self.output / "pages"

    def seed_folder(self, seed: int) -> Path:
        """Return the folder of a seed's runs."""
        return self.output / f"seed{seed}"

    def run_folder(self, arm: str, seed: int) -> Path:
        """Return the folder of a fine run."""
        return self.seed_folder(seed) / arm

    @property
    def make(self) -> TinyRuns:
        """Makes the commands."""
        return TinyRuns(self.settings.precision, self.settings.options)

    def pages(self) -> dict[str, list[Command]]:
        """Return what draws the pages and makes the student that all runs start from: two chains."""
        chosen, data, draw = self.settings, self.data, self.make.draw
        drawn = [draw(data / "test", "questions", 0, test=chosen.test_pages)]
        for seed in range(chosen.seeds):
            coarse = max(1, round(chosen.pages * chosen.coarse_share))  # the first of the same pages
            drawn += [
                draw(data / f"coarse-seed{seed}", "questions", seed, train=coarse, dev=chosen.dev_pages),
                draw(data / f"fine-seed{seed}", "questions", seed, train=chosen.pages),
            ]
        return {"start": self.make.start(data / "reading", self.output / "start", chosen.start_steps), "pages": drawn}

    def coarse(self) -> dict[str, list[Command]]:
        """Return the coarse run of each seed, and the test of the start."""
        work = {"start": [self._test(self.output / "start/student", self.output / "start/eval", "start", 0)]}
        excess = {"rule": "excess", "teacher": TEACHER, "dev_tokens": self.settings.dev_tokens}
        measure = {"class_path": "TaskLosses", "init_args": {"every_n_steps": 10, **excess}}
        for seed in range(self.settings.seeds):
            root, folder = self.data / f"coarse-seed{seed}", self.seed_folder(seed) / "coarse"
            words = self.make.fit(self._sft(), root, folder, self.settings.coarse_steps, seed, [measure])
            reason = f"Measure the losses of tasks in a coarse run, seed {seed}"
            work[f"c{seed}"] = [Command(reason, words, folder / "task_losses.json")]
        return work

    def fine(self) -> dict[str, list[Command]]:
        """Return a training and its test for each arm and seed, by names such as "E0"."""
        work = {}
        for seed in range(self.settings.seeds):
            for arm, name in ARMS.items():
                root, folder = self.data / f"fine-seed{seed}", self.run_folder(arm, seed)
                weights = [] if arm == "U" else ["--data.weights", str(self.weights_file(arm, seed))]
                callbacks = [{"class_path": "TaskLosses"}, SAVE]
                words = self.make.fit(self._sft(), root, folder, self.settings.steps, seed, callbacks, weights)
                train = Command(f"Train, drawing tasks {name}, seed {seed}", words, folder / "student/config.json")
                work[f"{arm}{seed}"] = [train, self._test(folder / "student", folder / "eval", f"{arm}, {name}", seed)]
        return work

    def weights_file(self, arm: str, seed: int) -> Path:
        """Return the file of an arm's weights."""
        return self.seed_folder(seed) / f"weights-{arm}.json"

    def freeze_weights(self) -> None:
        """Write each arm's weights from what the coarse runs found, unless they are there."""
        for seed in range(self.settings.seeds):
            found = read_json(
                self.seed_folder(seed) / "coarse/task_losses.json", "Remove the folder, and run it again."
            )
            weights = {arm: dict.fromkeys(found["weights"], 1.0) | found[name] for arm, name in WEIGHTS_OF.items()}
            weights["P"] = dealt(weights["E"], seed)
            for arm, chosen in weights.items():
                file = self.weights_file(arm, seed)
                if not file.exists():
                    partial = file.with_suffix(".partial")  # a kill must not leave half a file that is never replaced
                    write_json(partial, {"rule": ARMS[arm], "weights": chosen})
                    partial.replace(file)

    def _sft(self) -> list[str]:
        return ["--config", str(CONFIGS / "sft_tiny.yaml"), "--model.checkpoint", str(self.output / "start/student")]

    def _test(self, model: Path, folder: Path, label: str, seed: int) -> Command:
        return self.make.test(f"Test: {label}, seed {seed}", model, self.data / "test", folder, label, seed)


def dealt(weights: dict[str, float], seed: int) -> dict[str, float]:
    """Deal weights to tasks at random, each to one; never as they were, unless all are the same."""
    rng = np.random.default_rng([seed, len(weights)])
    values = list(weights.values())
    while len(set(values)) > 1 and values == list(weights.values()):
        values = [float(value) for value in rng.permutation(values)]
    return dict(zip(weights, values, strict=True))
