"""How often each sample of a set is read in an epoch."""

import json
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from fcot.errors import UserError, nearest
from shards.feed.task_weights import MOST_READS, balanced
from shards.format.index import Array
from shards.format.shard_set import ShardSet


def read_weights(path: Path) -> tuple[dict[str, float], float]:
    """Return the weights by task that an earlier stage wrote, for example the callback TaskLosses.

    Args:
        path: JSON with an object `weights`, or nothing but that object.

    Returns:
        The weights, and how often an epoch may read a sample at most: `MOST_READS` if the file names the `rule` that
        they follow, any number if somebody chose them.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        found: Any = json.loads(path.read_bytes())
        weights = found.get("weights", found)
        return {str(task): float(weight) for task, weight in weights.items()}, MOST_READS if "rule" in found else inf
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"Weights of tasks cannot be read from {path} ({error}).\n"
            'Give JSON such as {"weights": {"table": 2, "text": 0.5}}, or the task_losses.json of a run.'
        ) from error


def task_sizes(samples: ShardSet) -> dict[str, int]:
    """Return the usable samples of each task."""
    names, place = _places(samples, "task")
    counts = np.bincount(place, minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}


def task_reads(samples: ShardSet, counts: Array | None) -> dict[str, float]:
    """Return how often an epoch reads a sample of each task, in the mean.

    Args:
        samples: The set.
        counts: How often it reads each usable sample; None if each once.
    """
    sizes = task_sizes(samples)
    if counts is None:
        return dict.fromkeys(sizes, 1.0)
    names, place = _places(samples, "task")
    sums = np.bincount(place, weights=counts, minlength=len(names))
    return {name: float(total / sizes[name]) for name, total in zip(names, sums, strict=True) if name in sizes}


def reading_counts(
    samples: ShardSet, weights: Mapping[str, float], repeat_time: Mapping[str, float], most: float = inf
) -> tuple[Array, Array] | None:
    """Return how often each usable sample is read in an epoch, and its group, None if each is read once.

    A sample's count is the weight of its task times the `repeat_time` of its source, 1 where nothing is said. The
    weights are scaled to leave the length of an epoch as it is without them, so only their ratios matter;
    `repeat_time` sets that length. Where the count of a task, or of a named source, has a fraction, each epoch reads a
    different part of its samples once more; so the length may differ by half a sample for each of them.

    Args:
        samples: The set.
        weights: By task.
        repeat_time: By source, as InternVL's meta files have it; 1 is once an epoch.
        most: The largest weight after scaling.

    Raises:
        UserError: If a name is unknown, a number negative, or every task has weight 0.
    """
    if all(number == 1 for number in (*weights.values(), *repeat_time.values())):
        return None
    tasks, task = _named(samples, "task", weights)
    sources, source = _named(samples, "source", repeat_time)
    counts = np.array([repeat_time.get(name, 1.0) for name in sources])[source]
    sizes = np.bincount(task, weights=counts, minlength=len(tasks)).tolist()
    scaled = balanced({name: weights.get(name, 1.0) for name in tasks}, dict(zip(tasks, sizes, strict=True)), most=most)
    counts = counts * np.array([scaled[name] for name in tasks])[task]
    # sources that are not named form no groups: fractions of their few samples would be rounded away
    group = np.array([sources.index(name) + 1 if name in repeat_time else 0 for name in sources])
    groups = (task + 1) * (len(sources) + 1) + group[source]
    return None if np.allclose(counts, 1.0, rtol=0, atol=1e-9) else (counts, groups)


def _places(samples: ShardSet, column: str) -> tuple[list[str], Array]:
    """Return all names of a column, and the place of each usable sample's name among them."""
    names, place = samples.names(column)
    place = place[samples.usable()]
    if (place < 0).any():  # samples without a name: plain pairs, as older indexes have them
        names, place = [*names, ""], np.where(place < 0, len(names), place)
    return names, place


def _named(samples: ShardSet, column: str, numbers: Mapping[str, float]) -> tuple[list[str], Array]:
    """Return what `_places` does, and check numbers given by name.

    Raises:
        UserError: If a name is not there, or a number cannot be one of readings.
    """
    names, place = _places(samples, column)
    for name, number in numbers.items():
        if name not in names:
            raise UserError(f"There is no {column} {name!r} in {samples.source}.{nearest(name, names)}")
        if not 0 <= number < inf:
            raise UserError(f"The {column} {name!r} has weight {number}.\nGive 0 or more; 1 is once an epoch.")
    return names, place
