"""The whole method on the tiny world, as ordinary commands; those that do not wait for each other run side by side."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from fcot.errors import UserError
from fcot.reproduce.runner import Command, Runner

CONFIGS = Path("configs")
TEACHER = "fcot/tiny/teacher"
MARKER = "demo.json"  # in the folder of a demo, which may be replaced


@dataclass(frozen=True)
class Preset:
    """How long each part of the demo is.

    Attributes:
        sft_steps: Steps of post-training, of 32 pages each, by ratio: a student for each. With ratio 1 the
            uncompressed teacher is post-trained too, as the control. The longest first, for they may run side by side.
        realign_steps: Steps of re-alignment, of 32 pages each.
        realign_pages: Pages to re-align on.
        sft_pages: Pages to post-train on, the same for all; more steps read them again.
        dev_pages: Dev pages: merges are found on one half of them, and the best is confirmed or not on the other.
        test_pages: Test pages, shared by all models.
        data: Folder the pages are drawn in.
        options: Further options of every run.
        seed: Seed of pages, their order and training.
    """

    sft_steps: dict[int, int]
    realign_steps: int
    realign_pages: int
    sft_pages: int
    dev_pages: int
    test_pages: int
    data: str
    options: tuple[str, ...] = ()
    seed: int = 0

    def pages(self, recipe: str) -> dict[str, int]:
        """Return how many pages of a recipe are drawn for each split."""
        if recipe == "reading":
            return {"train": self.realign_pages, "dev": self.dev_pages}
        return {"train": self.sft_pages, "dev": self.dev_pages, "test": self.test_pages}

    def data_options(self, recipe: str) -> list[str]:
        """Return the options of a run on these pages."""
        samples = ", ".join(f"{split}: {count}" for split, count in self.pages(recipe).items())
        where = ["--data.root", f"{self.data}/{recipe}", "--data.recipe_samples", f"{{{samples}}}"]
        seeds = [
            word
            for name in ("seed_everything", "data.seed", "data.recipe_seed")
            for word in (f"--{name}", str(self.seed))
            if self.seed
        ]
        return [*self.options, *where, *seeds]


PRESETS = {
    "demo": Preset({2: 130}, 140, 4480, 4160, 140, 280, "data/demo"),
    "tables": Preset({4: 2100, 1: 700, 2: 900}, 160, 5120, 22400, 196, 420, "data/tables"),
}


def draw(preset: Preset) -> list[Command]:
    """Return what draws the pages."""

    def build(recipe: str) -> Command:
        counts = {"train": 0, "dev": 0, "test": 0} | preset.pages(recipe)
        sizes = [word for split, count in counts.items() for word in (f"--{split}", str(count))]
        seed = ["--seed", str(preset.seed)] if preset.seed else []
        words = ["shards", "build", "--output", f"{preset.data}/{recipe}", "--recipe", recipe, *sizes, *seed]
        return Command(f"Draw the pages of {recipe}", words)

    return [build("reading"), build("questions")]


def chains(preset: Preset, output: Path) -> dict[str, list[Command]]:
    """Return what is run on the pages: chains of commands by name, none of which waits for another chain."""
    realign, sft = str(CONFIGS / "realign_tiny.yaml"), str(CONFIGS / "sft_tiny.yaml")
    reading, questions = preset.data_options("reading"), preset.data_options("questions")

    def measure(name: str, checkpoint: str | Path, label: str) -> Command:
        options = ["--model.checkpoint", str(checkpoint), "--model.label", label]
        where = ["--trainer.default_root_dir", str(output / "eval" / name)]
        words = ["test", "--config", sft, *options, *where, *questions]
        return Command(f"Measure: {label} on test pages", words, output / "eval" / name / "test.json")

    def length(steps: int) -> list[str]:
        return ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(max(1, steps // 3))]

    def post_train(ratio: int, checkpoint: str | Path) -> list[str]:
        where = ["--trainer.default_root_dir", str(output / f"sft-r{ratio}")]
        steps = length(preset.sft_steps[ratio])
        return ["fit", "--config", sft, "--model.checkpoint", str(checkpoint), *steps, *where, *questions]

    def control() -> list[Command]:
        return [
            Command("Post-train the teacher itself: the control", post_train(1, TEACHER)),
            measure("teacher-sft", output / "sft-r1" / "merged", "teacher + same SFT"),
        ]

    def student(ratio: int) -> list[Command]:
        chosen = ["--config", realign, "--model.checkpoint", TEACHER, "--model.ratio", str(ratio)]
        run, trained = output / f"realign-r{ratio}", output / f"sft-r{ratio}"
        start = ["--model.label", "pooled start", "--trainer.default_root_dir", str(output / f"eval/start-r{ratio}")]
        trained_for = [*length(preset.realign_steps), "--trainer.default_root_dir", str(run)]
        last = trained / "snapshots" / f"step-{preset.sft_steps[ratio]:06d}"
        untrained = f"Measure: the student at 1/{ratio} of the tokens before any training"
        return [
            Command(untrained, ["test", *chosen, *start, *questions], output / f"eval/start-r{ratio}/test.json"),
            Command(
                f"Re-align at 1/{ratio} of the tokens",
                ["fit", *chosen, *trained_for, *reading],
                run / "student" / "config.json",
            ),
            measure(f"realigned-r{ratio}", run / "student", "re-aligned"),
            Command(
                f"Post-train and merge at 1/{ratio} of the tokens",
                post_train(ratio, run / "student"),
                trained / "merged" / "config.json",
            ),
            measure(f"sft-r{ratio}", last, "SFT, last snapshot"),
            measure(f"merged-r{ratio}", trained / "merged", "SFT + merge"),
        ]

    work = {f"1/{ratio}": control() if ratio == 1 else student(ratio) for ratio in preset.sft_steps}
    next(reversed(work.values())).insert(0, measure("teacher", TEACHER, "teacher"))  # the first is the longest
    return work


def make_room(output: Path, preset: Preset) -> None:
    """Replace an earlier demo's folder by an empty one, which says in `demo.json` what is run.

    Raises:
        UserError: If the folder holds something else.
    """
    if not (output / MARKER).is_file() and (not output.is_dir() or any(output.iterdir())) and output.exists():
        raise UserError(
            f"{str(output)!r} holds something else than an earlier demo, which would be replaced.\n"
            "Give another --output, a folder that is new or empty."
        )
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    (output / MARKER).write_text(json.dumps(asdict(preset), indent=1) + "\n", encoding="utf-8")


def demo(preset: Literal["demo", "tables"] = "demo", output: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Compress the tiny teacher, retrain it, merge, measure, and write a report.

    Every step is an ordinary command, printed before it runs; copy one to change it. Run it from the folder
    that holds `configs/`.

    Args:
        preset: demo (ratio 2, about nine minutes on 2 cores) or tables (ratios 2 and 4, the control; about
            58 minutes).
        output: Folder of the runs; those of an earlier demo are replaced.
        seed: Seed of pages, their order and training; each has pages of its own.

    Raises:
        UserError: If a command fails, `configs/` is not here, or the output folder holds something else.
    """
    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run the demo from the folder of the project's clone.")
    chosen = PRESETS[preset]
    if seed:
        chosen = replace(chosen, seed=seed, data=f"{chosen.data}-seed{seed}")
    make_room(output, chosen)
    drawn, work = draw(chosen), chains(chosen, output)
    runner = Runner(len(drawn) + sum(map(len, work.values())) + 1)
    runner.run(drawn)
    runner.run_chains(work)
    runner.run([Command("Write the report", ["report", str(output)])])
    print(f"\nDone in {runner.clock()}.")
