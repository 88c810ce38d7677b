"""What the three wordings came to: table, picture and sentences."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fcot.evaluation.records import as_text
from fcot.files.markdown import table
from fcot.merge.picture import BLUE, GREY
from fcot.report.plots import GREEN, dress, new_figure, png
from fcot.reproduce.page_scores import scores_of
from fcot.reproduce.rewriting_targets import ARMS, lengths
from fcot.statistics import DifferenceOverSeeds, paired_difference_over_seeds

NAMES = {
    "bare": "bare: the conclusion alone",
    "foreign": "foreign: same facts, other words",
    "own": "the teacher's own",
}
ASKED = ("lookup", "compare", "arithmetic")  # whose answers are rewritten
READ = ("text", "table", "chart")  # which nobody rewrites: what is forgotten
COMPARED = {
    "tone": ("own", "foreign", ASKED, "end"),
    "length": ("foreign", "bare", ASKED, "end"),
    "both": ("own", "bare", ASKED, "end"),
    "tone after a third of the steps": ("own", "foreign", ASKED, "third"),
    "tone, on pages that are only read": ("own", "foreign", READ, "end"),
    "length, on pages that are only read": ("foreign", "bare", READ, "end"),
}
Scores = Mapping[str, list[float]]


def write_results(output: Path, seeds: int, steps: int) -> None:
    """Write `results.json`, `RESULTS.md` and `results.png`, and print the table.

    Args:
        output: Folder of the runs.
        seeds: Runs of each wording.
        steps: Of post-training.
    """
    scores = {
        (arm, when): [scores_of(output / f"{arm}-{seed}" / when) for seed in range(seeds)]
        for arm in ARMS
        for when in ("third", "end")
    }
    losses = {arm: teacher_loss(output / "teacher" / arm) for arm in ARMS}
    texts = lengths(output / "targets")
    found = {
        name: difference(scores[better, when], scores[other, when], tasks)
        for name, (better, other, tasks, when) in COMPARED.items()
    }
    rows = [row_of(arm, scores, losses[arm], texts[arm]) for arm in ARMS]
    (output / "results.json").write_text(
        json.dumps(
            {
                "split": "test",
                "seeds": seeds,
                "steps": steps,
                "arms": {row["arm"]: row for row in rows},
                "differences": {name: plain(each) for name, each in found.items()},
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    text = markdown(rows, found, seeds, steps)
    (output / "RESULTS.md").write_text(text, encoding="utf-8")
    (output / "results.png").write_bytes(draw(rows))
    print(text)


def difference(a: Sequence[Scores], b: Sequence[Scores], tasks: Sequence[str]) -> DifferenceOverSeeds:
    """Return the difference of two ways to train on those of the tasks that were tested."""
    tasks = [task for task in tasks if task in a[0]]
    return paired_difference_over_seeds(*([{task: run[task] for task in tasks} for run in each] for each in (a, b)))


def teacher_loss(folder: Path) -> float:
    """Return the loss of an answer token that a validation logged."""
    with (folder / "loss" / "version_0" / "metrics.csv").open(encoding="utf-8") as file:
        values = [float(row["val/loss"]) for row in csv.DictReader(file) if row.get("val/loss")]
    return values[-1]


def row_of(
    arm: str, scores: Mapping[tuple[str, str], Sequence[Scores]], loss: float, texts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of a wording."""

    def means(when: str, tasks: Sequence[str]) -> list[float]:
        return [mean(mean(run[task]) for task in tasks if task in run) for run in scores[arm, when]]

    end = means("end", ASKED)
    return {
        "arm": arm,
        "answers": texts["answers"],
        "median_characters": texts["median_characters"],
        "teacher_loss": loss,
        "third": mean(means("third", ASKED)),
        "end": mean(end),
        "by_seed": end,
        "sd_of_seeds": stdev(end) if len(end) > 1 else 0.0,
        "read_only": mean(means("end", READ)),
    }


def plain(found: DifferenceOverSeeds) -> dict[str, Any]:
    """Return a difference in plain types."""
    return {"mean": vars(found.mean), "by_task": {task: vars(each) for task, each in found.by_task.items()}}


def markdown(
    rows: Sequence[Mapping[str, Any]], found: Mapping[str, DifferenceOverSeeds], seeds: int, steps: int
) -> str:
    """Return the page."""
    head = ["wording", "median characters", "teacher's loss a token", f"after {round(steps / 3)}", f"after {steps}",
            "SD of seeds", "read-only tasks"]  # fmt: skip
    cells = [
        [
            NAMES[row["arm"]],
            str(row["median_characters"]),
            f"{row['teacher_loss']:.3f}",
            f"{row['third']:.3f}",
            f"{row['end']:.3f}",
            f"{row['sd_of_seeds']:.3f}",
            f"{row['read_only']:.3f}",
        ]
        for row in rows
    ]
    compared = [[name, as_text(each.mean), verdict(each)] for name, each in found.items()]
    return "\n".join(
        [
            f"Mean score of {', '.join(ASKED)} by conclusions; test pages n = {found['tone'].mean.n}, {seeds} seeds of "
            f"training, {rows[0]['answers']} verified answers, the same in each wording.",
            "",
            table(head, cells, [":--", *["--:"] * 6]),
            "",
            "Differences by pages in pairs, 95 % interval over seeds and pages:",
            "",
            table(["difference", "points", "says"], compared, [":--", "--:", ":--"]),
            "",
        ]
    )


def verdict(found: DifferenceOverSeeds) -> str:
    """Return what an interval says."""
    if found.mean.low > 0:
        return "helps"
    return "harms" if found.mean.high < 0 else "not shown"


def draw(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw score over the teacher's loss, a dot a seed."""
    figure = new_figure(7.2, 4.0)
    axes: Any = figure.subplots()
    for row, color in zip(rows, (GREY, GREEN, BLUE), strict=True):
        axes.plot([row["teacher_loss"]] * len(row["by_seed"]), row["by_seed"], "o", color=color, alpha=0.5)
        axes.plot([row["teacher_loss"]], [row["end"]], "s", color=color, label=NAMES[row["arm"]])
    axes.set_xlabel("teacher's loss on an answer token")
    axes.set_ylabel("mean score of questions")
    axes.legend(frameon=False, fontsize=9)
    dress(axes)
    return png(figure)
