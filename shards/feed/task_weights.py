"""How often to read the samples of each task next time, from losses of a short run (FCoT-VL, section 3.3).

Rule `loss` is what the paper says: tasks of much lower loss than others are read less often, tasks of high loss more
often, except those that generate text freely. Rule `excess` is ours: a loss counts as far as it is above the
teacher's on the same pages, so that a task that is hard for anybody is not read more often for that.

A weight is how often an epoch reads the samples of a task, in the mean. Weights leave the epoch's length as it is.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

import numpy as np
import numpy.typing as npt

from fcot.errors import UserError

LEAST, MOST = 0.5, 2.0
MOST_READS = 3.0  # by weights of a file, in an epoch of whatever mixture it is applied to
FEWEST = 30  # dev samples of a task whose weight may differ from 1
FLOOR = 0.01  # nats a token: no excess is smaller
RESAMPLES = 2000
ALPHA = 1.0

RULES = {
    "loss": f"a task's training loss over the median of all tasks, at least {LEAST}, at most {MOST}, at most 1 for a "
    "generation task; the loss is the mean over samples of the mean loss of a sample's answer tokens",
    "excess": "exp(r ln(e / median e)) with e = how far a task's dev loss is above the teacher's, at least "
    f"{FLOOR}, and r = 1 / (1 + (se(e) / e)^2), at least {LEAST}, at most {MOST}, at most 1 for a generation task; 1 "
    f"where the interval of e / median e holds 1 or there are fewer than {FEWEST} dev samples",
}


@dataclass(frozen=True)
class Excess:
    """What rule `excess` found for a task.

    Attributes:
        samples: Dev samples.
        loss: Mean over samples of the mean loss of the conclusion's tokens, in nats.
        teacher_loss: The teacher's, on the same.
        excess: How far the one is above the other, at least `FLOOR`.
        standard_error: Of the excess, by bootstrap over samples.
        low: Lower end of the 95 % interval of excess over median excess.
        high: Upper end.
        weight: How often to read a sample of the task.
    """

    samples: int
    loss: float
    teacher_loss: float
    excess: float
    standard_error: float
    low: float
    high: float
    weight: float


def loss_weights(
    losses: Mapping[str, float], sizes: Mapping[str, int], generation_tasks: Collection[str] = ()
) -> dict[str, float]:
    """Return weights by rule `loss`.

    Args:
        losses: Mean loss of each task, over samples: by tokens, long read-outs would rule it.
        sizes: Training samples of each task.
        generation_tasks: Tasks with many right answers, whose loss stays high however well they are learned: they are
            never read more often.
    """
    middle = median(losses.values()) if losses else 0.0
    weights = {task: loss / middle if middle > 0 else 1.0 for task, loss in losses.items()}
    return _within_bounds(weights, sizes, generation_tasks)


def excess_weights(
    student: Mapping[str, Sequence[float]],
    teacher: Mapping[str, Sequence[float]],
    sizes: Mapping[str, int],
    generation_tasks: Collection[str] = (),
    *,
    seed: int = 0,
) -> dict[str, Excess]:
    """Return weights by rule `excess`, with the figures that they follow from.

    Args:
        student: Losses of the dev samples of each task.
        teacher: The teacher's, of the same samples in the same order.
        sizes: Training samples of each task.
        generation_tasks: Tasks that are never read more often.
        seed: Of the bootstrap.
    """
    tasks = sorted(student)
    above = {task: np.asarray(student[task], float) - np.asarray(teacher[task], float) for task in tasks}
    excess = {task: max(float(above[task].mean()), FLOOR) for task in tasks}
    known = [task for task in tasks if len(above[task]) >= FEWEST]
    rng = np.random.default_rng(seed)
    means = {task: _resampled(above[task], rng) for task in tasks}
    middle = median(excess[task] for task in known) if known else 1.0
    middles = np.median([np.maximum(means[task], FLOOR) for task in known], axis=0) if known else np.ones(RESAMPLES)
    weights, rows = {}, {}
    for task in tasks:
        error = float(means[task].std())
        low, high = np.quantile(np.maximum(means[task], FLOOR) / middles, (0.025, 0.975)).tolist()
        sure = 1 / (1 + (error / excess[task]) ** 2)
        moved = task in known and not low <= 1 <= high
        weights[task] = (excess[task] / middle) ** (ALPHA * sure) if moved else 1.0
        mean, teachers = float(np.mean(student[task])), float(np.mean(teacher[task]))
        rows[task] = (len(above[task]), mean, teachers, excess[task], error, low, high)
    weights = _within_bounds(weights, sizes, generation_tasks)
    return {task: Excess(*row, weight=weights[task]) for task, row in rows.items()}


def _resampled(values: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the means of values redrawn with replacement `[RESAMPLES]`; by loop, for a set may be large."""
    count = len(values)
    return np.array([values[rng.integers(count, size=count)].mean() for _ in range(RESAMPLES)])


def _within_bounds(
    weights: Mapping[str, float], sizes: Mapping[str, int], generation_tasks: Collection[str]
) -> dict[str, float]:
    """Clip weights, then balance them within the same bounds."""
    most = {task: 1.0 if task in generation_tasks else MOST for task in weights}
    clipped = {task: min(most[task], max(LEAST, weight)) for task, weight in weights.items()}
    return balanced(clipped, sizes, least=LEAST, most=most)


def balanced(
    weights: Mapping[str, float],
    sizes: Mapping[str, float],
    *,
    least: float = 0.0,
    most: Mapping[str, float] | float = inf,
) -> dict[str, float]:
    """Scale weights so that an epoch stays as long as it is without them: Σ size x weight = Σ size.

    Weights that would leave the bounds stay at a bound, and what is missing or left over is spread over the others in
    proportion. If the bounds do not allow it, the epoch is as near to its length as they do.

    Args:
        weights: By task, 0 or more.
        sizes: Samples of each task; a task without any keeps its weight.
        least: Lower bound of weights that are not 0.
        most: Upper bound, or one for each task.

    Raises:
        UserError: If all tasks that have samples have weight 0.
    """
    tasks = [task for task in weights if sizes.get(task, 0) > 0]
    if not tasks:
        return dict(weights)
    given, counts = np.array([weights[task] for task in tasks]), np.array([sizes[task] for task in tasks], float)
    upper = np.array([most if isinstance(most, float | int) else most[task] for task in tasks])
    if not (given * counts).any():
        raise UserError(f"All of the tasks {', '.join(tasks)} have weight 0, so there is nothing to read.\nRaise one.")

    def scaled(factor: float) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = np.where(given > 0, np.clip(given * factor, least, upper), 0.0)
        return found

    length = counts.sum()
    factor = length / (given * counts).sum()
    low, high = 0.0, factor
    while (scaled(high) * counts).sum() < length and high < factor * 1e6:
        high *= 2
    for _ in range(60 if (scaled(factor) != given * factor).any() else 0):
        factor = (low + high) / 2
        low, high = (factor, high) if (scaled(factor) * counts).sum() < length else (low, factor)
    return {**weights, **dict(zip(tasks, scaled(factor).tolist(), strict=True))}
