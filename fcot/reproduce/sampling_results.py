"""What `reproduce sampling` found: the result of each run, the differences, and what they say."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from fcot.files.json_files import read_json, write_json
from fcot.report.rows import signed
from fcot.reproduce.page_scores import scores_by_page
from fcot.reproduce.runner import Command
from fcot.reproduce.sampling_plan import ARMS, Plan
from fcot.reproduce.sampling_table import CORRECTED, Differences, draw, lines
from fcot.statistics import DifferenceOverSeeds, holm, paired_difference_over_seeds

COMPARED = {"E - U": ("E", "U"), "E - P": ("E", "P"), "L - U": ("L", "U"), "P - U": ("P", "U")}
SURE = 0.05


def write_run(plan: Plan, arm: str, seed: int, commands: Sequence[Command]) -> None:
    """Write the `result.json` of a run that has ended: its commands, its weights, the score of each page."""
    folder = plan.run_folder(arm, seed)
    row, losses = read_json(folder / "eval/test.json"), read_json(folder / "task_losses.json")
    result = {
        "arm": arm,
        "seed": seed,
        "commands": [shlex.join(["fcot", *command.words]) for command in commands],
        "weights": None if arm == "U" else read_json(plan.weights_file(arm, seed))["weights"],
        "read": losses["read"],
        "answer_tokens": losses["answer_tokens"],
        "mean": row["scores"]["mean"]["mean"],
        "scores": scores_by_page(folder / "eval"),
    }
    write_json(folder / "result.json", result)


def write_results(plan: Plan) -> None:
    """Write `results.json`, `table.md` and `sampling.png` into the folder of the runs, and print the table."""
    results = {
        arm: [read_json(plan.run_folder(arm, seed) / "result.json") for seed in range(plan.settings.seeds)]
        for arm in ARMS
    }
    differences = {name: compared(results[a], results[b]) for name, (a, b) in COMPARED.items()}
    found = [verdict(differences), *harms(differences), *undecided(results["E"])]
    content = {
        "settings": asdict(plan.settings),
        "start": read_json(plan.output / "start/eval/test.json")["scores"]["mean"]["mean"],
        "arms": {arm: summary(runs) for arm, runs in results.items()},
        "differences": {
            name: {**asdict(difference), "p_holm": holm(difference.p_values)}
            for name, difference in differences.items()
        },
        "weights": {arm: [run["weights"] for run in runs] for arm, runs in results.items() if arm != "U"},
        "found": found,
    }
    write_json(plan.output / "results.json", content)
    text = "\n".join(lines(plan.settings, content, differences))
    (plan.output / "table.md").write_text(text, encoding="utf-8")
    (plan.output / "sampling.png").write_bytes(draw(differences))
    print(f"\n{text}\n{plan.output / 'sampling.png'}")


def compared(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> DifferenceOverSeeds:
    """Return how much higher the runs of one arm score than those of another, paired by seed and page."""
    for one, other in zip(a, b, strict=True):
        pages = [{task: [*scores] for task, scores in run["scores"].items()} for run in (one, other, a[0])]
        assert pages[0] == pages[1] == pages[2], f"seed {one['seed']} was tested on other pages"
    series = [[{task: [*scores.values()] for task, scores in run["scores"].items()} for run in runs] for runs in (a, b)]
    return paired_difference_over_seeds(series[0], series[1])


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return an arm's scores: the mean over seeds, each seed's, each task's; and its answer tokens in training."""
    return {
        "name": ARMS[runs[0]["arm"]],
        "mean": fmean(run["mean"] for run in runs),
        "by_seed": [run["mean"] for run in runs],
        "tasks": {task: fmean(fmean(run["scores"][task].values()) for run in runs) for task in runs[0]["scores"]},
        "answer_tokens": fmean(run["answer_tokens"] for run in runs),
    }


def verdict(differences: Differences) -> str:
    """Say whether drawing by excess helped, by the two primary comparisons."""
    uniform, placebo = differences["E - U"].mean, differences["E - P"].mean
    figures = f"(E - U {signed(asdict(uniform))}, E - P {signed(asdict(placebo))})"
    if uniform.high < 0:
        return f"Drawing by excess harms: it reads worse than uniform drawing {figures}."
    if uniform.low > 0 and placebo.low > 0:
        return (
            "Drawing by excess helps: it reads better than uniform drawing, and than the same weights dealt to tasks "
            f"at random {figures}."
        )
    seen = max((each.high - each.low) / 2 for each in (uniform, placebo))
    if uniform.low > 0:
        return (
            "Drawing by excess reads better than uniform drawing, but that it matters which tasks it chooses is "
            f"not shown: the placebo is not shown to be worse {figures}."
        )
    return (
        f"It is not shown that drawing by excess helps {figures}. An effect below about {seen:.3f} could not be seen "
        "with so many seeds and pages."
    )


def undecided(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in which seeds excess left all weights at 1: there E and P are uniform drawing."""
    seeds = [str(run["seed"]) for run in runs if set(run["weights"].values()) == {1.0}]
    return [f"Excess left every weight at 1 in seed {', '.join(seeds)}, where E and P are U."] if seeds else []


def harms(differences: Differences) -> list[str]:
    """Say whether the paper's rule helped, and which tasks each rule harmed, by Holm's correction over tasks."""
    said = []
    for name, rule in zip(CORRECTED, ("excess", "loss (the paper's rule)"), strict=True):
        difference = differences[name]
        corrected = holm(difference.p_values)
        worse = [task for task, each in difference.by_task.items() if each.mean < 0 and corrected[task] < SURE]
        tasks = (f"{task} {signed(asdict(difference.by_task[task]))}" for task in worse)
        losers = f"loses on {', '.join(tasks)}" if worse else "is not shown to lose on any task"
        said.append(f"Drawing by {rule} {losers} against uniform drawing (Holm over tasks, {SURE:.0%}).")
    paper = differences["L - U"].mean
    effect = "helps" if paper.low > 0 else "harms" if paper.high < 0 else "is not shown to help or to harm"
    return [f"The paper's rule {effect} (L - U {signed(asdict(paper))}).", *said]
