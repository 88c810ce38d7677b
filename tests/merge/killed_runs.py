"""Kill a merge again and again with SIGKILL, let it finish, and print the result.

Run as `python killed_runs.py FOLDER SEED`. Each run is a fork of this process, so that torch is imported
once; it uses nothing else of the parent.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from fcot.merge import merge_snapshots, open_weights, write_weights

PLAYERS = ["step=10", "step=20", "step=30"]
TENSORS = 4


def write_checkpoints(root):
    for place, name in enumerate(["base", *PLAYERS]):
        generator = torch.Generator().manual_seed(place)
        stream = ((f"layer{number}", torch.randn(64, generator=generator)) for number in range(TENSORS))
        write_weights(root / name, stream)


def merge(root, output):
    """Merge with a slow utility that notes each call; writing the model is slow too."""

    def utility(weights):
        with (output.parent / "calls").open("a") as calls:
            calls.write("x")
        time.sleep(0.01)
        return 1 / (1 + sum(float((tensor - 0.1).square().mean()) for tensor in weights.values()))

    def finish(folder, tensors):
        write_weights(folder, tensors, max_shard_bytes=256)
        time.sleep(0.05)
        (folder / "config.json").write_text("{}")
        time.sleep(0.05)

    output.parent.mkdir(exist_ok=True)
    snapshots = {name: root / name for name in PLAYERS}
    merge_snapshots(root / "base", snapshots, utility, output, finish=finish, describe={"split": "dev", "n": 4})


def is_whole(output):
    names = {path.name for path in output.iterdir()}
    return {"merge.json", "merge.png", "config.json"} <= names and len(open_weights(output)) == TENSORS


def run_and_kill(root, output, is_time, delay):
    """Run a merge in a fork and kill it `delay` seconds after `is_time()`; return whether it was still running."""
    child = os.fork()
    if child == 0:
        try:
            merge(root, output)
            os._exit(0)
        finally:
            os._exit(1)
    while not is_time() and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(delay)
    try:
        os.kill(child, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    except (ProcessLookupError, ChildProcessError):
        return False


def count_calls(output):
    calls = output.parent / "calls"
    return calls.stat().st_size if calls.exists() else 0


def main():
    root, draw = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    write_checkpoints(root)
    merge(root, root / "straight" / "merged")
    output = root / "killed" / "merged"
    kills = 0
    for more in (1, 2, 5, 3, 1):
        goal = count_calls(output) + more
        kills += run_and_kill(root, output, lambda goal=goal: count_calls(output) >= goal, draw.uniform(0, 0.01))
    for sign in ("merged.tmp-*", "merged.tmp-*/config.json", "merged.tmp-*/merge.json"):
        before = set(output.parent.glob(sign))

        def appeared(sign=sign, before=before):
            return set(output.parent.glob(sign)) - before

        kills += run_and_kill(root, output, appeared, draw.uniform(0, 0.02))
    partial = output.exists() and not is_whole(output)
    if not output.exists():
        merge(root, output)
    beside = sorted(path.name for path in output.parent.iterdir())
    print(json.dumps({"kills": kills, "partial": partial, "calls": count_calls(output), "beside": beside}))


if __name__ == "__main__":
    main()
