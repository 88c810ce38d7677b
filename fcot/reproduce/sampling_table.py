"""The table and the picture of `reproduce sampling`, for a README."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fcot.files.markdown import table
from fcot.merge.picture import BLUE, GREY, INK, ORANGE
from fcot.report.plots import dress, new_figure, png
from fcot.report.rows import signed
from fcot.reproduce.sampling_plan import Settings
from fcot.reproduce.tiny_runs import BATCH
from fcot.statistics import DifferenceOverSeeds

Differences = Mapping[str, DifferenceOverSeeds]
SPOKEN = {
    "E - U": "excess - uniform",
    "E - P": "excess - placebo",
    "L - U": "paper's rule - uniform",
    "P - U": "placebo - uniform",
}
CORRECTED = ("E - U", "L - U")  # comparisons that are asked for harm to single tasks


def lines(chosen: Settings, content: Mapping[str, Any], differences: Differences) -> list[str]:
    """Return the text of `table.md`."""
    arms = content["arms"]
    tasks, uniform = [*arms["U"]["tasks"]], arms["U"]["answer_tokens"]
    scores = [
        [
            f"{arm}, {row['name']}",
            f"{row['mean']:.3f}",
            ", ".join(f"{mean:.3f}" for mean in row["by_seed"]),
            *(f"{row['tasks'][task]:.3f}" for task in tasks),
            f"{row['answer_tokens'] / uniform:.2f}",
        ]
        for arm, row in arms.items()
    ]
    pairs = [
        [name, signed(asdict(each.mean)), ", ".join(f"{value:+.3f}" for value in each.by_seed)]
        for name, each in differences.items()
    ]
    by_task = [
        [task, *(signed(asdict(each.by_task[task])) for each in differences.values()),
         *(f"{content['differences'][name]['p_holm'][task]:.3f}" for name in CORRECTED)]
        for task in tasks
    ]  # fmt: skip
    weights = [
        [f"{arm}, seed {seed}", *(f"{found[task]:.2f}" for task in tasks)]
        for arm, by_seed in content["weights"].items()
        for seed, found in enumerate(by_seed)
    ]
    return [
        f"Split test, n = {differences['E - U'].mean.n} pages, {chosen.seeds} seeds; ratio 2, {chosen.steps} steps of "
        f"{BATCH} pages from a re-aligned student (which scores {content['start']:.3f}), weights from "
        f"{chosen.coarse_steps} steps on {chosen.coarse_share:.0%} of the pages. Mean score over tasks.",
        "",
        table(["drawing", "mean", "by seed", *tasks, "answer tokens"], scores, right(len(tasks) + 3)),
        "",
        "Differences paired by seed and page; 95 % intervals by nested bootstrap: seeds, then pages in each task.",
        "",
        table(["difference", "mean over tasks", "by seed"], pairs, right(2)),
        "",
        table(["task", *differences, *(f"p of {name}*" for name in CORRECTED)], by_task, right(len(differences) + 2)),
        "",
        "\\* two-sided, by Holm's correction over tasks",
        "",
        "Weights of tasks: how often an epoch reads a page, up to a factor that keeps its length.",
        "",
        table(["weights", *tasks], weights, right(len(tasks))),
        "",
        *(f"- {sentence}" for sentence in content["found"]),
        "",
    ]


def right(columns: int) -> list[str]:
    """Return the alignment of a table: a name, then figures."""
    return [":--", *["--:"] * columns]


def draw(differences: Differences) -> bytes:
    """Draw the differences with their intervals: means over tasks with each seed as a dot, and E - U by task."""
    figure = new_figure(9.6, 3.6)
    left, right_axes = figure.subplots(1, 2, width_ratios=[1, 1.1])
    names = [*differences]
    for place, (name, each) in enumerate(differences.items()):
        color = BLUE if name.startswith("E") else ORANGE if name.startswith("L") else GREY
        left.plot([each.mean.low, each.mean.high], [place, place], color=color, linewidth=2.4, solid_capstyle="round")
        left.plot(each.mean.mean, place, "o", color=color, markersize=8)
        left.plot(each.by_seed, [place + 0.22] * len(each.by_seed), "|", color=INK, markersize=6)
    left.set_yticks(range(len(names)), [SPOKEN[name] for name in names])
    left.set_title("mean over tasks (strokes: each seed)", fontsize=10, loc="left", color=INK)
    by_task = differences["E - U"].by_task
    for place, interval in enumerate(by_task.values()):
        right_axes.plot([interval.low, interval.high], [place, place], color=BLUE, linewidth=2.0)
        right_axes.plot(interval.mean, place, "o", color=BLUE, markersize=6)
    right_axes.set_yticks(range(len(by_task)), [*by_task])
    right_axes.set_title("excess - uniform by task", fontsize=10, loc="left", color=INK)
    for axes, count in ((left, len(names)), (right_axes, len(by_task))):
        axes.axvline(0.0, color=INK, linewidth=0.9)
        axes.set_ylim(count - 0.4, -0.6)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("difference of scores, 95 % interval", fontsize=9)
        dress(axes)
    return png(figure)
