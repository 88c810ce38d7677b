"""The whole method on the tiny world, as a sequence of ordinary commands."""

import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONFIGS = Path("configs")
TEACHER = "fcot/tiny/teacher"


@dataclass(frozen=True)
class Preset:
    """How long each part of the demo is.

    Attributes:
        ratios: Ratios to compress by, one student each.
        control: Post-train the uncompressed teacher too, on the same data.
        realign_steps: Steps of re-alignment, of 32 pages each.
        sft_steps: Steps of post-training, of 32 pages each.
        realign_pages: Pages to re-align on.
        sft_pages: Pages to post-train on.
        dev_pages: Dev pages a coalition of snapshots is scored on.
        test_pages: Test pages, shared by all models.
        data: Folder the pages are drawn in.
        options: Further options of every run.
    """

    ratios: tuple[int, ...]
    control: bool
    realign_steps: int
    sft_steps: int
    realign_pages: int
    sft_pages: int
    dev_pages: int
    test_pages: int
    data: str
    options: tuple[str, ...] = ()


PRESETS = {
    "demo": Preset((2,), False, 140, 130, 4480, 4160, 70, 280, "data/demo"),
    "tables": Preset((2, 4), True, 160, 700, 5120, 22400, 98, 420, "data/tables"),
}


def commands(preset: Preset, output: Path) -> list[tuple[str, list[str]]]:
    """Return what is run, each with a line that says why."""
    reading, asking = f"{preset.data}/reading", f"{preset.data}/questions"
    realign_data = data_options(reading, preset, train=preset.realign_pages)
    questions = data_options(asking, preset, train=preset.sft_pages, test=preset.test_pages)
    realign, sft = str(CONFIGS / "realign_tiny.yaml"), str(CONFIGS / "sft_tiny.yaml")

    def test(name: str, checkpoint: str | Path, label: str) -> tuple[str, list[str]]:
        options = ["--model.checkpoint", str(checkpoint), "--model.label", label]
        where = ["--trainer.default_root_dir", str(output / "eval" / name)]
        return f"Measure: {label} on test pages", ["test", "--config", sft, *options, *where, *questions]

    def post_train(name: str, checkpoint: str | Path) -> list[str]:
        steps = ["--trainer.max_steps", str(preset.sft_steps), "--trainer.default_root_dir", str(output / name)]
        return ["fit", "--config", sft, "--model.checkpoint", str(checkpoint), *steps, *questions]

    steps = [test("teacher", TEACHER, "teacher")]
    if preset.control:
        steps.append(("Post-train the teacher itself: the control", post_train("sft-r1", TEACHER)))
        steps.append(test("teacher-sft", output / "sft-r1" / "merged", "teacher + same SFT"))
    for ratio in preset.ratios:
        chosen = ["--config", realign, "--model.checkpoint", TEACHER, "--model.ratio", str(ratio)]
        start = [
            "--model.label",
            "pooled start",
            "--trainer.default_root_dir",
            str(output / "eval" / f"start-r{ratio}"),
        ]
        run = output / f"realign-r{ratio}"
        length = ["--trainer.max_steps", str(preset.realign_steps), "--trainer.default_root_dir", str(run)]
        last = output / f"sft-r{ratio}" / "snapshots" / f"step-{preset.sft_steps:06d}"
        steps += [
            (
                f"Measure: the student at 1/{ratio} of the tokens before any training",
                ["test", *chosen, *start, *questions],
            ),
            (f"Re-align at 1/{ratio} of the tokens", ["fit", *chosen, *length, *realign_data]),
            test(f"realigned-r{ratio}", run / "student", "re-aligned"),
            (f"Post-train and merge at 1/{ratio} of the tokens", post_train(f"sft-r{ratio}", run / "student")),
            test(f"sft-r{ratio}", last, "SFT, last snapshot"),
            test(f"merged-r{ratio}", output / f"sft-r{ratio}" / "merged", "SFT + merge"),
        ]
    return [*steps, ("Write the report", ["report", str(output)])]


def data_options(root: str, preset: Preset, **samples: int) -> list[str]:
    """Return the options of a set of pages: so many of each split, dev as the preset says."""
    samples["dev"] = preset.dev_pages
    pairs = ", ".join(f"{split}: {count}" for split, count in samples.items())
    return [*preset.options, "--data.root", root, "--data.recipe_samples", f"{{{pairs}}}"]


def demo(preset: Literal["demo", "tables"] = "demo", output: Path = Path("runs/demo")) -> None:
    """Compress the tiny teacher, retrain it, merge, measure, and write a report.

    Every step is an ordinary command, printed before it runs; copy one to change it. Run it from the folder
    that holds `configs/`.

    Args:
        preset: demo (ratio 2, about eight minutes on 2 cores) or tables (ratios 2 and 4, the control; about
            50 minutes).
        output: Folder of the runs; its contents are replaced.
    """
    from fcot.cli import main
    from fcot.errors import UserError

    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run the demo from the folder of the project's clone.")
    shutil.rmtree(output, ignore_errors=True)
    begun = time.monotonic()
    steps = commands(PRESETS[preset], output)
    for number, (title, words) in enumerate(steps, start=1):
        minutes, seconds = divmod(int(time.monotonic() - begun), 60)
        print(
            f"\n[{number}/{len(steps)} {minutes}:{seconds:02d}] {title}\n$ python -m fcot {shlex.join(words)}",
            flush=True,
        )
        main(words)
    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
    print(f"\nDone in {minutes} min {seconds} s.")
