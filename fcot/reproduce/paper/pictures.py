"""The figures of the re-run."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from fcot.merge.picture import BLUE, GREY, INK, ORANGE
from fcot.report.plots import GREEN, dress, moving_average, new_figure, png
from fcot.reproduce.page_scores import Scores
from fcot.statistics import DifferenceOverSeeds

COLORS = (BLUE, ORANGE, GREY, GREEN, INK, "#8a5a9e", "#b0455f", "#7a6a3a")


def draw_changes(changes: Mapping[str, DifferenceOverSeeds]) -> bytes:
    """Draw the change of each task with its interval, ways beside each other."""
    tasks = list(next(iter(changes.values())).by_task)
    figure = new_figure(9.0, 0.9 + 0.52 * len(tasks))
    axes = figure.subplots()
    for number, (name, each) in enumerate(changes.items()):
        offset = 0.22 * (number - (len(changes) - 1) / 2)
        for place, interval in enumerate(each.by_task.values()):
            at, label = place + offset, name if place == 0 else None
            axes.plot([100 * interval.low, 100 * interval.high], [at, at], color=COLORS[number], linewidth=2)
            axes.plot(100 * interval.mean, at, "o", color=COLORS[number], markersize=5, label=label)
    axes.axvline(0.0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.set_xlabel("score minus the teacher's, points of 100, 95 % interval", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    dress(axes)
    return png(figure)


def draw_losses(curves: Mapping[str, Sequence[Sequence[tuple[int, float]]]]) -> bytes:
    """Draw the loss of each module over steps, a line for each seed."""
    import numpy as np

    figure = new_figure(7.6, 4.0)
    axes = figure.subplots()
    for number, (name, runs) in enumerate(curves.items()):
        for seed, curve in enumerate(runs):
            steps, values = (np.array(each, dtype=float) for each in zip(*curve, strict=True))
            if len(steps) > 10:
                steps, values = moving_average(steps, values, max(1, len(steps) // 40))
            axes.plot(steps, values, color=COLORS[number], linewidth=1.3, label=name if seed == 0 else None)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("loss of re-alignment (KL + cross-entropy)", fontsize=9)
    axes.legend(fontsize=9, frameon=False)
    dress(axes)
    return png(figure)


def draw_see_saw(by_place: Sequence[Sequence[Scores]]) -> bytes:
    """Draw each task's score at each snapshot, means over seeds."""
    figure = new_figure(7.6, 4.2)
    axes = figure.subplots()
    places = range(1, len(by_place) + 1)
    for number, task in enumerate(by_place[0][0]):
        means = [100 * fmean(fmean(run[task]) for run in runs) for runs in by_place]
        axes.plot(places, means, marker="o", color=COLORS[number % len(COLORS)], linewidth=1.4, label=task)
    axes.set_xticks(places)
    axes.set_xlabel("snapshot of post-training", fontsize=9)
    axes.set_ylabel("score, points of 100", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    dress(axes)
    return png(figure)
