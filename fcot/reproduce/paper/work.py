"""The commands behind the paper's tables and figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fcot.reproduce.paper.preset import Preset, filled
from fcot.reproduce.runner import Command

Part = Literal["table1", "table2", "table3", "table4", "table5", "figure3", "figure4", "figure5", "figure6"]
PARTS: tuple[Part, ...] = get_args(Part)
SNAPSHOTS = 5  # of a post-training


@dataclass(frozen=True)
class Run:
    """A student, or the control: the teacher itself, at ratio 1.

    Attributes:
        module: Short name of the compressor.
        ratio: How many visual tokens become one.
        seed: Of its training.
    """

    module: str
    ratio: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folders."""
        return f"{self.module}-r{self.ratio}-s{self.seed}" if self.ratio > 1 else f"control-s{self.seed}"


@dataclass(frozen=True)
class Work:
    """The commands, by folder of what they make.

    Attributes:
        preset: What is run.
        output: Folder of all of it.
    """

    preset: Preset
    output: Path

    def runs(self, part: Part) -> list[Run]:
        """Return the trainings that a part needs."""
        preset, first = self.preset, self.preset.modules[0]
        if part in ("table1", "table2", "figure3"):
            students = [Run(first, ratio, seed) for seed in preset.seeds for ratio in preset.ratios]
            controls = [] if part == "table2" else [Run(first, 1, seed) for seed in preset.seeds]
            return [*controls, *students]
        if part in ("table3", "figure4"):
            return [Run(module, preset.ratios[0], seed) for seed in preset.seeds for module in preset.modules]
        if part == "figure5" or (part == "table4" and preset.merges):
            return [Run(first, preset.ratios[0], seed) for seed in preset.seeds]
        if part == "figure6":
            return [Run(first, ratio, preset.seeds[0]) for ratio in preset.ratios]
        return []

    def draw(self) -> list[Command]:
        """Return what draws the pages."""
        data = self.output / "pages"
        lines = [(line, 0) for line in self.preset.draw]
        lines += [(line, seed) for seed in self.preset.seeds for line in self.preset.draw_for_each_seed]
        commands = []
        for line, seed in lines:
            words = filled(line, data=data, seed=seed)
            root = Path(words[words.index("--output") + 1])
            counts = {split: int(words[words.index(f"--{split}") + 1]) for split in ("train", "dev", "test")}
            last = [split for split, count in counts.items() if count][-1]
            commands.append(Command(f"Draw the pages of {root.name}", words, root / last / "manifest.json"))
        return commands

    def chains(self, parts: Sequence[Part]) -> dict[str, list[Command]]:
        """Return chains of commands, none of which waits for another; each command once."""
        preset, work = self.preset, {}
        for run in dict.fromkeys(run for part in parts for run in self.runs(part)):
            wanted = [part for part in parts if run in self.runs(part)]
            work[run.name] = [*self._training(run, wanted), *self._tests(run, wanted)]
        if {"table1", "table2", "figure3"} & {*parts}:
            work["teacher"] = [self.test(Path(preset.teacher), self.tested("teacher"), "teacher")]
        if "table1" in parts:
            work["teacher"] += list(self._rivals())
        return work

    def alone(self, parts: Sequence[Part]) -> list[Command]:
        """Return what has the machine to itself, after everything else: times, and what has its own chains."""
        commands, preset = [], self.preset
        if "table4" in parts and preset.merging:
            words = [*filled(preset.merging), "--output", str(self.output / "merging")]
            commands.append(Command("Table 4: merge snapshots", words, self.output / "merging" / "results.json"))
        if "figure6" in parts and preset.looks:
            models = [preset.teacher, *(str(self.last(run)) for run in self.runs("figure6"))]
            words = [*filled(preset.looks), *models, "--output", str(self.output / "looks")]
            commands.append(Command("Figure 6: where answers look", words, self.output / "looks" / "looks.json"))
        if "table5" in parts and preset.time:
            words = [*filled(preset.time), "--json", str(self.output / "time.json")]
            commands.append(Command("Table 5: time the reading of a page", words, self.output / "time.json"))
        return commands

    def realigned(self, run: Run) -> Path:
        """Return the folder of a re-aligned student; of the control, the teacher's."""
        return self.output / "realign" / run.name / "student" if run.ratio > 1 else Path(self.preset.teacher)

    def snapshots(self, run: Run) -> list[Path]:
        """Return the folders of a post-training's snapshots that are there, by step."""
        return sorted((self.output / "post" / run.name / "snapshots").glob("step-*"))

    def last(self, run: Run) -> Path:
        """Return the folder of the last snapshot."""
        words = filled(self.preset.post_train)
        step = int(words[words.index("--trainer.max_steps") + 1])
        return self.output / "post" / run.name / "snapshots" / f"step-{step:06d}"

    def tested(self, name: str) -> Path:
        """Return the folder of a model's scores."""
        return self.output / "eval" / name

    def test(self, model: Path, folder: Path, label: str, more: Sequence[str] = ()) -> Command:
        """Return what scores a model."""
        words = filled(self.preset.test, data=self.output / "pages", model=model, output=folder)
        if self.preset.scores_benchmarks:
            return Command(f"Score: {label}", [*words, *more], folder / "scores.json")
        words += ["--model.checkpoint", str(model), "--model.label", label, *more]
        words += ["--trainer.default_root_dir", str(folder)]
        return Command(f"Score: {label}", words, folder / "test.json")

    def _training(self, run: Run, parts: Sequence[Part]) -> Iterator[Command]:
        preset, where = self.preset, {"data": self.output / "pages", "seed": run.seed}
        seeds = ["--seed_everything", str(run.seed), "--data.seed", str(run.seed), "--ckpt_path", "last"]
        if run.ratio > 1:
            folder = self.realigned(run).parent
            words = ["fit", *filled(preset.realign, **where), "--model.checkpoint", preset.teacher]
            words += ["--model.compressor", run.module, "--model.ratio", str(run.ratio)]
            words += ["--trainer.default_root_dir", str(folder), *seeds]
            yield Command(f"Re-align {run.name}", words, self.realigned(run) / "config.json")
        if {*parts} - {"table2", "figure4"}:
            folder = self.output / "post" / run.name
            words = ["fit", *filled(preset.post_train, **where), "--model.checkpoint", str(self.realigned(run))]
            words += ["--trainer.default_root_dir", str(folder), *seeds]
            yield Command(f"Post-train {run.name}", words, self.last(run) / "config.json")

    def _tests(self, run: Run, parts: Sequence[Part]) -> Iterator[Command]:
        if "table2" in parts:
            yield self.test(self.realigned(run), self.tested(f"realigned-{run.name}"), f"re-aligned {run.name}")
        if {"table1", "table3", "table4", "figure3", "figure5"} & {*parts}:
            yield self.test(self.last(run), self.tested(f"post-{run.name}"), f"post-trained {run.name}")
        if "figure5" in parts:
            step = int(self.last(run).name.removeprefix("step-"))
            for place in range(1, SNAPSHOTS):
                model = self.last(run).with_name(f"step-{round(step * place / SNAPSHOTS):06d}")
                yield self.test(model, self.tested(f"post-{run.name}-{place}"), f"snapshot {place} of {run.name}")

        if "table4" in parts:
            merged = self.output / "merged" / run.name
            words = ["merge", str(self.output / "post" / run.name), "--output", str(merged / "auto")]
            words += ["--each", str(merged), "--overwrite", "true"]
            yield Command(f"Merge the snapshots of {run.name} by every method", words, merged / "auto" / "merge.json")
            for method in self.preset.merges:
                yield self.test(merged / method, self.tested(f"merged-{run.name}-{method}"), f"{method} of {run.name}")

    def _rivals(self) -> Iterator[Command]:
        for name, options in self.preset.rivals.items():
            for ratio in self.preset.ratios:
                given = {**options, "keep": 1 / ratio}
                words = ["--reduce", name]
                if self.preset.scores_benchmarks:
                    words += ["--reduce_options", str(given)]
                else:
                    words += [word for key, value in given.items() for word in (f"--reduce.{key}", str(value))]
                folder = self.tested(f"{name}-r{ratio}")
                yield self.test(Path(self.preset.teacher), folder, f"teacher with {name}, 1/{ratio}", words)
