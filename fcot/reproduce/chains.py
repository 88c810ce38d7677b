"""The tiny teacher earns its own chains of thought, and how many of them reason wrongly is counted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.files.json_files import write_json
from fcot.files.markdown import table
from fcot.reproduce.demo import CONFIGS, TEACHER
from fcot.reproduce.rewriting import VERIFIERS
from fcot.reproduce.runner import Command, Runner
from fcot.statistics import proportion_interval
from shards.factory.job import Job
from shards.factory.kinds import Form
from shards.factory.kinds.cot import Cot
from shards.factory.question import Known, Question
from shards.factory.questions import questions
from shards.factory.run import load_job

ROWS = {"lookup": 1, "compare": 2, "arithmetic": 2}  # rows of the page that an answer rests on


@dataclass
class Counted:
    """Responses of a task.

    Attributes:
        right: With a right conclusion.
        right_wrongly: Of these, with wrong reasoning.
        accepted: Accepted by form, conclusion and chain.
        accepted_wrongly: Of these, with wrong reasoning.
        lost: With a right conclusion and right reasoning, and not accepted.
    """

    right: int = 0
    right_wrongly: int = 0
    accepted: int = 0
    accepted_wrongly: int = 0
    lost: int = 0


def chains(
    output: Path = Path("runs/chains"), *, pages: int = 1500, samples: int = 8, steps: int = 30, seed: int = 12
) -> None:
    """Draw chains of thought with the shipped teacher, verify them, count wrong reasoning, and train on them.

    What a page really says is known here, so that a chain with a right conclusion and wrong reasoning is found. About
    20 minutes on 2 cores; called again, it goes on where it was stopped. Run it from the folder that holds `configs/`.

    Args:
        output: Folder of pages, chains and the run.
        pages: Pages that are drawn; three sevenths have questions that need a chain.
        samples: Chains drawn a question.
        steps: Steps of post-training on what was accepted, of 32 pages each.
        seed: Seed of the pages.

    Raises:
        UserError: If a command fails, or `configs/` is not here.
    """
    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    output.mkdir(parents=True, exist_ok=True)
    template = output / "template.txt"
    template.write_text("{question}\n", encoding="utf-8")  # the tiny teacher knows no instructions
    drawn, made = output / "pages", output / "chains"
    build = ["shards", "build", "--output", str(drawn), "--recipe", "questions", "--train", str(pages)]
    build += ["--dev", "64", "--test", "70", "--seed", str(seed)]
    cot = ["data", "cot", str(drawn / "train"), str(made), "--generator", TEACHER]
    cot += ["--verifiers", json.dumps(VERIFIERS), "--template", str(template), "--samples", str(samples)]
    cot += ["--temperature", "1", "--max_tokens", "300", "--mix", "1", "--chance_level", "1", "--device", "cpu"]
    fit = ["fit", "--config", str(CONFIGS / "sft_tiny.yaml"), "--model.checkpoint", "fcot/tiny/student"]
    fit += ["--data.root", str(output / "data"), "--data.recipe", "null", "--trainer.max_steps", str(steps)]
    fit += ["--trainer.val_check_interval", str(steps), "--trainer.default_root_dir", str(output / "sft")]
    fit += ["--trainer.callbacks", "[{class_path: Snapshots, init_args: {count: 1}}]"]
    runner = Runner(3)
    runner.run(
        [
            Command("Draw pages with questions", build, drawn / "test" / "manifest.json"),
            Command("Draw chains and verify them", cot),
        ]
    )
    write_counts(output, load_job(made))
    linked(output / "data", {"train": made, "dev": drawn / "dev", "test": drawn / "test"})
    runner.run([Command("Train on the chains", fit)])
    print(f"\nDone in {runner.clock()}.")


def linked(root: Path, sets: dict[str, Path]) -> None:
    """Make a folder whose sets lie elsewhere."""
    root.mkdir(exist_ok=True)
    for split, folder in sets.items():
        if not (root / split).is_symlink():
            (root / split).symlink_to(folder.resolve(), target_is_directory=True)


def write_counts(output: Path, job: Job) -> None:
    """Count wrong reasoning, print it, and write `chains.json` and `chains.md`."""
    counted: dict[str, Counted] = {}
    asked = 0
    for known, texts in answered(job):
        asked += 1
        count(counted.setdefault(known.task, Counted()), known, texts)
    total = Counted(*(sum(vars(each)[name] for each in counted.values()) for name in vars(Counted())))
    rows = [[task, *cells(each)] for task, each in [*sorted(counted.items()), ("all", total)]]
    head = [
        "task",
        "right conclusion",
        "of them wrong reasoning",
        "accepted",
        "of them wrong reasoning",
        "right, not accepted",
    ]
    text = f"{asked} questions, {job.kind.samples} samples each.\n\n{table(head, rows)}\n"
    (output / "chains.md").write_text(text, encoding="utf-8")
    write_json(output / "chains.json", {task: vars(each) for task, each in [*counted.items(), ("all", total)]})
    print(f"\n{text}")


def answered(job: Job) -> Iterator[tuple[Known, list[Any]]]:
    """Yield each question with its responses."""
    for shard in range(job.shards):
        there = job.journal(shard).read()
        for question in questions(job.source, shard, job.limit):
            if isinstance(question, Question) and (ids := job.ids(question)) and all(name in there for name in ids):
                yield question.known, [there[name][0] for name in ids]


def count(counted: Counted, known: Known, responses: list[Any]) -> None:
    """Count the responses to a question."""
    kind = Cot(VERIFIERS)
    for response, judged in zip(responses, kind.judge(known, responses, Form(), None), strict=True):
        wrong = rests_on(response.text, known.task) != rests_on(known.gold, known.task)
        counted.right += judged.right
        counted.right_wrongly += judged.right and wrong
        counted.accepted += judged.verdict.accepted
        counted.accepted_wrongly += judged.verdict.accepted and wrong
        counted.lost += judged.right and not wrong and not judged.verdict.accepted


def rests_on(chain: str, task: str) -> list[str]:
    """Return the lines of a chain that its answer rests on: the rows that were asked for, which come last."""
    rows = [line.strip() for line in chain.splitlines() if ": " in line and not line.startswith("Answer: ")]
    return rows[-ROWS[task] :]


def cells(counted: Counted) -> list[str]:
    """Return the figures of a task."""
    before, after = (
        f"{hits} = {share(hits, of)}"
        for hits, of in (
            (counted.right_wrongly, counted.right),
            (counted.accepted_wrongly, counted.accepted),
        )
    )
    return [str(counted.right), before, str(counted.accepted), after, str(counted.lost)]


def share(hits: int, of: int) -> str:
    """Return a share with its exact interval."""
    if not of:
        return "-"
    found = proportion_interval(hits, of)
    return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"
