"""Does the teacher's tone help? One set of verified answers in three wordings, and students trained on each."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fcot.errors import UserError
from fcot.reproduce.demo import CONFIGS, TEACHER
from fcot.reproduce.resuming import take_up
from fcot.reproduce.rewriting_targets import ARMS, write_targets
from fcot.reproduce.runner import Command, Runner

VERIFIERS = {
    "lookup": "number",
    "compare": "choice",
    "arithmetic": "number",
    **dict.fromkeys(("form", "text", "table", "chart"), None),
}
MARKER = "rewriting.json"


@dataclass(frozen=True)
class Plan:
    """How long each part is.

    Attributes:
        pages: Pages that are asked about; three sevenths have questions that need a chain.
        samples: Chains drawn a question; one verified chain is kept.
        realign: Steps of re-alignment, of 32 pages each.
        steps: Steps of post-training, of 32 pages each.
        test: Test pages.
        seeds: Seeds of post-training.
        precision: Of training and tests.
    """

    pages: int
    samples: int
    realign: int
    steps: int
    test: int
    seeds: int
    precision: str


def rewriting(
    output: Path = Path("runs/rewriting"),
    *,
    seeds: int = 3,
    pages: int = 3000,
    samples: int = 2,
    steps: int = 100,
    realign_steps: int = 160,
    test_pages: int = 420,
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed",
) -> None:
    """Train students on the same verified answers, bare, in foreign words, and in the teacher's own words.

    Between bare and foreign lies the length of the answers, between foreign and the teacher's own their tone. Every
    step is an ordinary command, printed before it runs; called again, it goes on where it was stopped. About
    50 minutes on 2 cores; run it from the folder that holds `configs/`.

    Args:
        output: Folder of the runs.
        seeds: Runs of each wording.
        pages: Pages that are asked about; three sevenths have questions that need a chain.
        samples: Chains drawn a question; one verified chain is kept.
        steps: Steps of post-training, of 32 pages each.
        realign_steps: Steps of re-alignment before, of 32 pages each.
        test_pages: Test pages, shared by all.
        precision: Of training and tests; 32-true suits processors without bf16 instructions, and takes longer.

    Raises:
        UserError: If a command fails, `configs/` is not here, or the output holds another plan's runs.
    """
    from fcot.reproduce.rewriting_results import write_results

    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    plan = Plan(pages, samples, realign_steps, steps, test_pages, seeds, precision)
    take_up(output, vars(plan), MARKER)
    before, measures = preparation(plan, output), teacher_losses(plan, output)
    trained = {arm: runs_of(arm, plan, output) for arm in ARMS}
    runner = Runner(len(before) + len(measures) + sum(map(len, trained.values())))
    runner.run(before)
    write_targets(output / "chains", output / "targets", output / "pages")
    runner.run(measures)
    runner.run_chains(trained)
    write_results(output, plan.seeds, plan.steps)
    print(f"\nDone in {runner.clock()}.")


def preparation(plan: Plan, output: Path) -> list[Command]:
    """Return what draws the pages, re-aligns a student, and has the teacher answer."""
    questions, reading = output / "pages", output / "reading"
    template = output / "template.txt"
    template.write_text("{question}\n", encoding="utf-8")  # the tiny teacher knows no instructions
    build = ["shards", "build", "--output"]
    asked = ["--recipe", "questions", "--train", str(plan.pages), "--dev", "64", "--test", str(plan.test)]
    read = ["--recipe", "reading", "--train", str(32 * plan.realign), "--dev", "64", "--test", "0"]
    realign = ["fit", "--config", str(CONFIGS / "realign_tiny.yaml"), "--trainer.max_steps", str(plan.realign)]
    realign += ["--trainer.val_check_interval", str(plan.realign), "--data.root", str(reading)]
    realign += ["--trainer.default_root_dir", str(output / "realign"), "--ckpt_path", "last"]
    realign += ["--trainer.precision", plan.precision]
    cot = ["data", "cot", str(questions / "train"), str(output / "chains"), "--generator", TEACHER]
    cot += ["--verifiers", json.dumps(VERIFIERS), "--template", str(template), "--samples", str(plan.samples)]
    cot += ["--most", "1", "--mix", "1", "--chance_level", "1", "--max_tokens", "300", "--device", "cpu"]
    return [
        Command("Draw pages with questions", [*build, str(questions), *asked], questions / "test" / "manifest.json"),
        Command("Draw pages to re-align on", [*build, str(reading), *read], reading / "dev" / "manifest.json"),
        Command("Re-align at half of the tokens", realign, output / "realign" / "student" / "config.json"),
        Command("Have the teacher answer, and verify", cot, output / "chains" / "manifest.json"),
    ]


def teacher_losses(plan: Plan, output: Path) -> list[Command]:
    """Return what measures how likely each wording is to the teacher."""
    commands = []
    for arm in ARMS:
        folder = output / "teacher" / arm
        words = ["validate", "--config", str(CONFIGS / "sft_tiny.yaml"), "--model.checkpoint", TEACHER]
        words += ["--data.root", str(output / "targets" / arm / "as_dev"), "--data.recipe", "null"]
        words += ["--trainer.limit_val_batches", "1.0", "--trainer.callbacks", "[{class_path: SkippedSamples}]"]
        words += ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(folder)]
        words += ["--trainer.logger.name", "loss", "--trainer.logger.version", "0"]
        words += ["--trainer.default_root_dir", str(folder), "--trainer.precision", plan.precision]
        made = folder / "loss" / "version_0" / "metrics.csv"
        commands.append(Command(f"Measure: the teacher's loss on {arm} answers", words, made))
    return commands


def runs_of(arm: str, plan: Plan, output: Path) -> list[Command]:
    """Return what trains and tests students on one wording."""
    shared = ["--data.root", str(output / "targets" / arm), "--data.recipe", "null"]
    shared += ["--trainer.precision", plan.precision]
    commands = []
    for seed in range(plan.seeds):
        run = output / f"{arm}-{seed}"
        words = ["fit", "--config", str(CONFIGS / "sft_tiny.yaml"), "--ckpt_path", "last", *shared]
        words += ["--model.checkpoint", str(output / "realign" / "student"), "--trainer.max_steps", str(plan.steps)]
        words += ["--trainer.val_check_interval", str(plan.steps), "--seed_everything", str(seed)]
        words += ["--data.seed", str(seed), "--trainer.default_root_dir", str(run)]
        snapshots = "[{class_path: Snapshots, init_args: {count: 3}}, {class_path: SkippedSamples}]"
        words += ["--trainer.callbacks", snapshots]
        steps = {"third": max(1, round(plan.steps / 3)), "end": plan.steps}
        last = run / "snapshots" / f"step-{plan.steps:06d}"
        commands.append(Command(f"Train on {arm} answers, seed {seed}", words, last / "config.json"))
        for name, step in steps.items():
            folder = run / name
            test = ["test", "--config", str(CONFIGS / "sft_tiny.yaml"), *shared]
            test += [
                "--model.checkpoint",
                str(run / "snapshots" / f"step-{step:06d}"),
                "--model.label",
                f"{arm} {name}",
            ]
            test += ["--trainer.default_root_dir", str(folder)]
            commands.append(Command(f"Measure: {arm}, seed {seed}, {name}", test, folder / "test.json"))
    return commands
