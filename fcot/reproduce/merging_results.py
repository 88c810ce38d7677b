"""What `reproduce merging` found: every method against the last snapshot and the decayed run, by intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from fcot.evaluation.records import as_text
from fcot.files.json_files import read_json, write_json
from fcot.merge import PageScores, coalition_key, shapley_values, value_intervals
from fcot.merge.scores import mean_over_tasks
from fcot.reproduce.merging_plan import AUTO, LAST, SCHEDULES, Plan
from fcot.reproduce.merging_table import draw, markdown
from fcot.reproduce.page_scores import scores_of
from fcot.statistics import DifferenceOverSeeds, paired_difference_by_group, paired_difference_over_seeds

DRAWS = 50  # of the dev half, for the coverage of the intervals
DECAYED = "cosine"  # the schedule whose last snapshot is the decayed run
Scores = Mapping[str, list[float]]


def write_results(plan: Plan) -> None:
    """Write `results.json`, `RESULTS.md` and `merging.png` into the folder of the runs, and print the table."""
    seeds = range(plan.settings.seeds)
    names = {schedule: [f"{schedule}-{seed}" for seed in seeds] for schedule in SCHEDULES}
    scores = {
        schedule: {method: [scores_of(plan.tested(name, method)) for name in runs] for method in plan.settings.tested}
        for schedule, runs in names.items()
    }
    merges = {
        schedule: [read_json(plan.folder_of(name) / "merged/merge.json") for name in runs]
        for schedule, runs in names.items()
    }
    found = compared(scores)
    content: dict[str, Any] = {
        "settings": asdict(plan.settings),
        "split": "test",
        "schedules": {
            schedule: {
                "means": {method: [mean_over_tasks(run) for run in runs] for method, runs in scores[schedule].items()},
                "kept": [report["chosen"] for report in merges[schedule]],
                "candidates": [report["choice"]["candidate"] for report in merges[schedule]],
                "evaluations": [report["evaluations"] for report in merges[schedule]],
                "values": [checked_values(report) for report in merges[schedule]],
                "auto_by_seed": [
                    asdict(paired_difference_by_group(*pair))
                    for pair in zip(scores[schedule][AUTO], scores[schedule][LAST], strict=True)
                ],
            }
            for schedule in SCHEDULES
        },
        "differences": {
            kind: {
                name: {"mean": asdict(each.mean), "by_seed": each.by_seed, "by_task": _plain(each)}
                for name, each in of_kind.items()
            }
            for kind, of_kind in found.items()
        },
    }
    content["found"] = sentences(found, content["schedules"])
    write_json(plan.output / "results.json", content)
    text = markdown(content)
    (plan.output / "RESULTS.md").write_text(text, encoding="utf-8")
    (plan.output / "merging.png").write_bytes(draw(content))
    print(f"\n{text}\n{plan.output / 'merging.png'}")


def compared(scores: Mapping[str, Mapping[str, Sequence[Scores]]]) -> dict[str, dict[str, DifferenceOverSeeds]]:
    """Return each method's differences, paired by seed and page.

    Args:
        scores: By schedule and method, for each seed: by task.

    Returns:
        By schedule, to its own last snapshot; and as "decayed", of the constant rate, to the last one of the cosine.
    """
    found = {
        schedule: {
            method: paired_difference_over_seeds(runs, of_methods[LAST])
            for method, runs in of_methods.items()
            if method != LAST
        }
        for schedule, of_methods in scores.items()
    }
    decayed = scores[DECAYED][LAST]
    found["decayed"] = {
        method: paired_difference_over_seeds(runs, decayed) for method, runs in scores["constant"].items()
    }
    return found


def checked_values(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a merge's Shapley values with their intervals, how exactly they add up, and how the intervals cover."""
    players, pages = report["players"], report["pages"]
    gain = report["utilities"][coalition_key(players)] - report["utilities"][""]
    return {
        "intervals": report["intervals"],
        "efficiency_error": abs(math.fsum(report["shapley"].values()) - gain),
        "coverage": coverage(pages, players),
    }


def coverage(pages: Mapping[str, PageScores], players: Sequence[str], draws: int = DRAWS, seed: int = 0) -> float:
    """Return how often the interval of one half of the pages covers the value on a half that is drawn anew.

    Halves are drawn within each task; the share is over draws and players.

    Args:
        pages: Scores of every coalition by task, by its key.
        players: The players' names.
        draws: Pairs of halves.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    counts = {task: len(scores) for task, scores in pages[""].items()}
    hits = []
    for draw_ in range(draws):
        halves = []
        for _ in range(2):
            chosen = {task: rng.permutation(count)[: (count + 1) // 2] for task, count in counts.items()}
            halves.append(
                {
                    key: {task: [each[task][page] for page in chosen[task]] for task in counts}
                    for key, each in pages.items()
                }
            )
        phi, _ = value_intervals(halves[0], players, seed=draw_, resamples=400)
        again = shapley_values({key: mean_over_tasks(each) for key, each in halves[1].items()}, players)
        hits += [phi[name].low <= value <= phi[name].high for name, value in again.items()]
    return fmean(hits)


def sentences(found: Mapping[str, Mapping[str, DifferenceOverSeeds]], runs: Mapping[str, Any]) -> list[str]:
    """Return what the experiment says about `auto`, about plain and Shapley merges, and about its own intervals."""
    said = []
    for schedule in SCHEDULES:
        auto, by_seed = found[schedule][AUTO].mean, runs[schedule]["auto_by_seed"]
        worse = auto.high < 0 or any(each["high"] < 0 for each in by_seed)
        kept = ", ".join(runs[schedule]["kept"])
        verdict = "worse than" if worse else "never shown to be worse than"
        said.append(f"{schedule}: `auto` kept {kept}; it is {verdict} the last snapshot, over seeds {as_text(auto)}.")
    for kind, against in (("constant", "the last snapshot"), ("decayed", "the decayed run (last of the cosine)")):
        for method in (name for name in ("average", "shapley") if name in found[kind]):
            said.append(f"constant: {method} {effect(found[kind][method])} against {against}.")
    shares = [each["coverage"] for schedule in SCHEDULES for each in runs[schedule]["values"]]
    errors = [each["efficiency_error"] for schedule in SCHEDULES for each in runs[schedule]["values"]]
    said.append(
        f"Intervals of Shapley values cover the value on another draw of the half in {min(shares):.0%} to "
        f"{max(shares):.0%} of {DRAWS} draws, by run; the values add up to {added(max(errors))}."
    )
    return said


def added(error: float) -> str:
    """Return how exactly values add up to what all players gain."""
    return f"within {error:.0e}" if error else "the last bit"


def effect(difference: DifferenceOverSeeds) -> str:
    """Return whether a difference is above or below zero, with its interval."""
    mean = difference.mean
    verdict = "gains" if mean.low > 0 else "loses" if mean.high < 0 else "is not shown to gain or to lose"
    return f"{verdict}, {as_text(mean)}"


def _plain(difference: DifferenceOverSeeds) -> dict[str, Any]:
    return {task: asdict(each) for task, each in difference.by_task.items()}
