"""How often each sample of a set is read in an epoch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fcot.errors import UserError, nearest
from shards.format.index import Array
from shards.format.shard_set import ShardSet


def read_weights(path: Path) -> dict[str, float]:
    """Return the weights by task that an earlier stage wrote, for example the callback TaskLosses.

    Args:
        path: JSON with an object `weights`, or nothing but that object.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        found: Any = json.loads(path.read_bytes())
        found = found.get("weights", found)
        return {str(task): float(weight) for task, weight in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"Weights of tasks cannot be read from {path} ({error}).\n"
            'Give JSON such as {"weights": {"table": 2, "text": 0.5}}, or the task_losses.json of a run.'
        ) from error


def reading_counts(
    samples: ShardSet, weights: Mapping[str, float], repeat_time: Mapping[str, float]
) -> tuple[Array, Array] | None:
    """Return how often each usable sample is read in an epoch, and its group, None if each is read once.

    A sample's count is the weight of its task times the `repeat_time` of its source, 1 where nothing is said. An
    epoch's length is the sum of the counts. Where the count of a task, or of a named source, has a fraction, each
    epoch reads a different part of its samples once more.

    Args:
        samples: The set.
        weights: By task; 1 is once an epoch.
        repeat_time: By source, as InternVL's meta files have it.

    Raises:
        UserError: If a name is unknown, or a number negative.
    """
    if all(number == 1 for number in (*weights.values(), *repeat_time.values())):
        return None
    usable = samples.usable()
    counts, groups = np.ones(len(usable)), np.zeros(len(usable), np.int64)
    for column, numbers in (("task", weights), ("source", repeat_time)):
        names, place = samples.names(column)
        for name, number in numbers.items():
            if name not in names:
                raise UserError(f"There is no {column} {name!r} in {samples.source}.{nearest(name, names)}")
            if not number >= 0 or number == float("inf"):
                raise UserError(f"The {column} {name!r} has weight {number}.\nGive 0 or more; 1 is once an epoch.")
        # the last is that of samples without a name: plain pairs, as older indexes have them
        counts *= np.array([*(numbers.get(name, 1.0) for name in names), 1.0])[place[usable]]
        # sources that are not named form no groups: fractions of their few samples would be rounded away
        own = np.array([names.index(name) + 1 if column == "task" or name in numbers else 0 for name in names] + [0])
        groups = groups * (len(names) + 1) + own[place[usable]]
    return counts, groups
