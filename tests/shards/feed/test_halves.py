"""The halves of a set: each sample in one of them, tasks shared out evenly, neighbours together."""

from collections import Counter
from types import SimpleNamespace

import pytest

from shards.feed.halves import Half


class Rows(SimpleNamespace):
    def __len__(self):
        return len(self.tasks)

    def take(self, rows):
        return Rows(keys=[self.keys[i] for i in rows], tasks=[self.tasks[i] for i in rows])


def batches(tasks, size):
    return [
        Rows(keys=list(range(start, start + len(tasks[start : start + size]))), tasks=tasks[start : start + size])
        for start in range(0, len(tasks), size)
    ]


@pytest.mark.parametrize("size", [1, 3, 32])
def test_each_sample_is_in_one_half_and_tasks_are_shared_evenly(size):
    tasks = ["text", "table", "text", "chart", "text", "table", "text", "text", "table"]
    loader = batches(tasks, size)
    halves = [[key for batch in Half(loader, second=second) for key in batch.keys] for second in (False, True)]
    assert sorted(halves[0] + halves[1]) == list(range(len(tasks)))
    first, second = (Counter(tasks[key] for key in half) for half in halves)
    assert first == {"text": 3, "table": 2, "chart": 1} and second == {"text": 2, "table": 1}


def test_a_half_is_the_same_each_time_and_in_order():
    half = Half(batches(["a"] * 7, 2), second=True)
    assert [[batch.keys for batch in half] for _ in range(2)] == [[[4, 5], [6]]] * 2
