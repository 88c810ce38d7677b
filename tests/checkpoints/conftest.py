"""Runs in processes that may be killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


class Forks:
    """Trains in forks of one process that has everything imported."""

    def __init__(self, model, shards):
        self.given = {"model": str(model), "shards": str(shards)}
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        env.pop("PL_GLOBAL_SEED", None)
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forks.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def train(self, folder, *, processes=1, kill=None, each=None, **arguments):
        """Train in one or more processes at once and return their exit codes; `each` adds arguments of a rank."""
        folder.mkdir(parents=True, exist_ok=True)
        given = {"folder": str(folder), **self.given, **arguments}
        if processes > 1:
            given |= {"devices": processes, "strategy": "ddp"}
        group = {"processes": [{**given, **(each or {}).get(rank, {})} for rank in range(processes)]}
        self.server.stdin.write(json.dumps(group | ({"kill": kill} if kill else {})) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    @staticmethod
    def record(folder, rank=0):
        """What a run saw, by batch; a batch that was done twice must have been the same both times."""
        found = {}
        for line in (folder / f"record-{rank}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            assert found.setdefault(entry["batch"], entry) == entry
        return found

    @staticmethod
    def weights(folder, rank=0):
        """What a run ended with."""
        return torch.load(folder / f"final-{rank}.pt", weights_only=True)

    def same(self, first, second):
        """Whether two runs saw the same and ended with the same weights, to the last bit."""
        one, other = self.weights(first), self.weights(second)
        equal = one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
        return equal and self.record(first) == self.record(second)


@pytest.fixture(scope="session")
def forks(student_folder, tiny_shards):
    """Trains in processes that may be killed."""
    made = Forks(student_folder, tiny_shards)
    yield made
    made.server.stdin.close()
    made.server.wait(60)
