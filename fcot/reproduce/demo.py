"""The whole method on the tiny world, as ordinary commands; those that do not wait for each other run side by side."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from fcot.errors import UserError

CONFIGS = Path("configs")
TEACHER = "fcot/tiny/teacher"
MARKER = "demo.json"  # in the folder of a demo, which may be replaced
Command = tuple[str, list[str]]  # why it is run, and its words after `fcot`


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
        return f"Draw the pages of {recipe}", words

    return [build("reading"), build("questions")]


def chains(preset: Preset, output: Path) -> dict[str, list[Command]]:
    """Return what is run on the pages: chains of commands by name, none of which waits for another chain."""
    realign, sft = str(CONFIGS / "realign_tiny.yaml"), str(CONFIGS / "sft_tiny.yaml")
    reading, questions = preset.data_options("reading"), preset.data_options("questions")

    def measure(name: str, checkpoint: str | Path, label: str) -> Command:
        options = ["--model.checkpoint", str(checkpoint), "--model.label", label]
        where = ["--trainer.default_root_dir", str(output / "eval" / name)]
        return f"Measure: {label} on test pages", ["test", "--config", sft, *options, *where, *questions]

    def length(steps: int) -> list[str]:
        return ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(max(1, steps // 3))]

    def post_train(ratio: int, checkpoint: str | Path) -> list[str]:
        where = ["--trainer.default_root_dir", str(output / f"sft-r{ratio}")]
        steps = length(preset.sft_steps[ratio])
        return ["fit", "--config", sft, "--model.checkpoint", str(checkpoint), *steps, *where, *questions]

    def control() -> list[Command]:
        return [
            ("Post-train the teacher itself: the control", post_train(1, TEACHER)),
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
            (untrained, ["test", *chosen, *start, *questions]),
            (f"Re-align at 1/{ratio} of the tokens", ["fit", *chosen, *trained_for, *reading]),
            measure(f"realigned-r{ratio}", run / "student", "re-aligned"),
            (f"Post-train and merge at 1/{ratio} of the tokens", post_train(ratio, run / "student")),
            measure(f"sft-r{ratio}", last, "SFT, last snapshot"),
            measure(f"merged-r{ratio}", trained / "merged", "SFT + merge"),
        ]

    work = {f"1/{ratio}": control() if ratio == 1 else student(ratio) for ratio in preset.sft_steps}
    next(reversed(work.values())).insert(0, measure("teacher", TEACHER, "teacher"))  # the first is the longest
    return work


class Runner:
    """Runs commands as processes of their own, and says before each what it is for.

    Args:
        total: How many there will be.
    """

    def __init__(self, total: int) -> None:
        self.total, self.begun, self.started = total, time.monotonic(), 0
        self.running: set[subprocess.Popen[str]] = set()
        self.stopped, self.lock = False, threading.Lock()

    def clock(self) -> str:
        """Return minutes and seconds since the beginning."""
        return "{} min {} s".format(*divmod(int(time.monotonic() - self.begun), 60))

    def run(self, commands: list[Command], *, mark: str = "", threads: int | None = None) -> None:
        """Run commands one after another.

        Args:
            commands: With the reason for each.
            mark: What each line of their output begins with.
            threads: Threads each may compute with (default: all).

        Raises:
            UserError: If one fails.
        """
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        to, errors_to = (subprocess.PIPE, subprocess.STDOUT) if mark else (None, None)
        for reason, words in commands:
            line = shlex.join(["fcot", *words])
            with self.lock:
                if self.stopped:
                    return
                self.started += 1
                print(f"\n{mark}[{self.started}/{self.total}, {self.clock()}] {reason}\n{mark}$ {line}", flush=True)
                program = [sys.executable, "-m", "fcot", *words]
                process = subprocess.Popen(
                    program, env=environment, stdout=to, stderr=errors_to, text=True, errors="replace"
                )
                self.running.add(process)
            for told in process.stdout or ():
                print(mark + told, end="", flush=True)
            code = process.wait()
            self.running.discard(process)
            if code and not self.stopped:
                raise UserError(f"This command ended with exit code {code}: {line}\nIts own lines above say why.")

    def run_chains(self, work: dict[str, list[Command]]) -> None:
        """Run chains of commands side by side, as many as there are cores; these are shared out among them.

        Several processes of a few threads train small models faster than one after another with all threads each.

        Raises:
            UserError: If a command fails; the others are stopped.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        lanes = min(len(work), cores)
        if lanes == 1:
            for commands in work.values():
                self.run(commands)
            return
        with ThreadPoolExecutor(lanes) as pool:
            jobs = [
                pool.submit(self.run, commands, mark=f"{name:5}| ", threads=max(1, cores // lanes))
                for name, commands in work.items()
            ]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Start nothing more, and end what runs."""
        with self.lock:
            self.stopped = True
            for process in list(self.running):
                process.terminate()


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
        preset: demo (ratio 2, about eight minutes on 2 cores) or tables (ratios 2 and 4, the control; about
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
    runner.run([("Write the report", ["report", str(output)])])
    print(f"\nDone in {runner.clock()}.")
