"""A run that is asked to leave saves once, at the same batch everywhere, and every process says the same."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fcot.runtime.checkpoints.folder import read_checkpoint
from fcot.runtime.checkpoints.preemption import EXIT_PREEMPTED

RUN = {"max_steps": 4, "accumulate_grad_batches": 2, "checkpoint_every_n_steps": 100, "limit_val_batches": 0}
PAIR = {**RUN, "data": {"batch_size": 2}, "module": {"drop_path": 0.0}}


def saves(folder, rank=0):
    return len((folder / f"saves-{rank}").read_text())


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_sigterm_to_the_second_of_two_processes_ends_both_at_the_same_step(forks, tmp_path):
    straight, left = tmp_path / "straight", tmp_path / "left"
    assert forks.train(straight, processes=2, **PAIR) == [0, 0]
    asked = {"number": signal.SIGTERM, "batch": 3, "rank": 1}
    codes = forks.train(left, processes=2, signals=asked, **PAIR)
    assert codes == [EXIT_PREEMPTED, EXIT_PREEMPTED]
    assert [max(forks.record(left, rank)) for rank in (0, 1)] == [3, 3]
    assert checkpoints(left) == ["step-000001.ckpt"]
    assert [saves(left, rank) for rank in (0, 1)] == [1, 1]
    assert "gradients" in read_checkpoint(left / "checkpoints" / "step-000001.ckpt")  # the fourth batch was to come
    assert forks.train(left, processes=2, ckpt_path="last", **PAIR) == [0, 0]
    assert all(forks.record(left, rank) == forks.record(straight, rank) for rank in (0, 1))
    for rank in (0, 1):
        assert forks.weights(left, rank).keys() == forks.weights(straight, 0).keys()
        assert all(torch.equal(w, forks.weights(straight, 0)[name]) for name, w in forks.weights(left, rank).items())


def validated(folder, rank=0):
    """What the validations of a run found: batch, step, loss."""
    path = folder / f"validated-{rank}.jsonl"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(("batch", "processes"), [(3, 2), (8, 1)])
def test_a_signal_during_a_validation_ends_it_and_the_resumed_run_begins_with_it(forks, tmp_path, batch, processes):
    """In the middle of gradient accumulation, and behind the last step of the run."""
    straight, left = tmp_path / "straight", tmp_path / "left"
    run = {**PAIR, "data": {"batch_size": 4 // processes, "eval_batch_size": 4 // processes}}
    run |= {"val_check_interval": batch, "limit_val_batches": 2, "processes": processes}
    assert forks.train(straight, **run) == [0] * processes
    asked = {"number": signal.SIGTERM, "batch": batch, "validating": True, "rank": processes - 1}
    assert forks.train(left, signals=asked, **run) == [EXIT_PREEMPTED] * processes
    assert max(forks.record(left)) == batch
    assert not validated(left)
    assert forks.train(left, ckpt_path="last", **run) == [0] * processes
    assert forks.same(left, straight)
    assert len(validated(straight)) == 8 // batch
    assert all(validated(left, rank) == validated(straight, rank) for rank in range(processes))


@pytest.mark.parametrize("every", [100, 1])
def test_batches_behind_a_saved_step_are_saved_too(forks, tmp_path, every):
    """Asked to leave within each step, that it started with or that was just saved, a run gets to its end."""
    straight, left = tmp_path / "straight", tmp_path / "left"
    run = {**RUN, "max_steps": 2, "accumulate_grad_batches": 3, "checkpoint_every_n_steps": every}
    assert forks.train(straight, **run) == [0]
    for batch in (1, 2, 4):
        asked = {"number": signal.SIGTERM, "batch": batch}
        assert forks.train(left, signals=asked, ckpt_path="last", **run) == [EXIT_PREEMPTED]
    assert forks.train(left, ckpt_path="last", **run) == [0]
    assert len((left / "record-0.jsonl").read_text().splitlines()) == 6  # no batch was done twice
    assert forks.same(left, straight)


def test_sigusr1_twice_more_during_the_save_is_one_save(forks, tmp_path):
    asked = {"number": signal.SIGUSR1, "batch": 4, "again": 2}
    assert forks.train(tmp_path, signals=asked, **RUN) == [EXIT_PREEMPTED]
    assert (saves(tmp_path), checkpoints(tmp_path)) == (1, ["step-000002.ckpt"])


def test_sigusr1_during_a_regular_save_needs_no_second_one(forks, tmp_path):
    asked = {"number": signal.SIGUSR1, "batch": -1, "again": 2}
    assert forks.train(tmp_path, signals=asked, **{**RUN, "checkpoint_every_n_steps": 2}) == [EXIT_PREEMPTED]
    assert (saves(tmp_path), checkpoints(tmp_path)) == (1, ["step-000002.ckpt"])


def test_a_signal_during_the_last_step_leaves_the_end_to_the_resumed_run(forks, tmp_path):
    asked = {"number": signal.SIGTERM, "batch": 8}
    assert forks.train(tmp_path, signals=asked, **RUN) == [EXIT_PREEMPTED]
    assert not (tmp_path / "final-0.pt").exists()
    assert forks.train(tmp_path, ckpt_path="last", **RUN) == [0]
    assert (tmp_path / "final-0.pt").exists()


def test_a_slurm_job_is_queued_again_and_resumes_by_itself(forks, tmp_path):
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/scontrol.log\n")
    (tmp_path / "scontrol").chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        **{"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fcot", "SLURM_JOB_ID": "17"},
        **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
    }
    asked = {"number": signal.SIGUSR1, "batch": 3}
    assert forks.train(tmp_path / "run", each={0: {"env": env}}, signals=asked, **RUN) == [EXIT_PREEMPTED]
    assert (tmp_path / "scontrol.log").read_text().split() == ["requeue", "17"]
    again = {**env, "SLURM_RESTART_COUNT": "1"}
    assert forks.train(tmp_path / "run", each={0: {"env": again}}, **RUN) == [0]
    lines = (tmp_path / "run" / "record-0.jsonl").read_text().splitlines()
    assert len(lines) == len(forks.record(tmp_path / "run")) == 8  # no batch was done twice


def test_data_workers_outlive_a_sigterm_to_all_processes_of_the_job(forks, tmp_path):
    asked = {"number": signal.SIGTERM, "batch": 2, "group": True}
    assert forks.train(tmp_path, signals=asked, data={"num_workers": 1}, **RUN) == [EXIT_PREEMPTED]
    assert checkpoints(tmp_path) == ["step-000001.ckpt"]


@pytest.mark.slow
def test_processes_that_the_trainer_started_itself_leave_alike(tmp_path, student_folder, tiny_shards):
    """Lightning kills the first process when one that it started exits with a code; not so here."""
    given = {"folder": str(tmp_path), "model": str(student_folder), "shards": str(tiny_shards), **PAIR}
    given |= {"devices": 2, "strategy": "ddp", "data": {"batch_size": 2}}
    given |= {"signals": {"number": signal.SIGTERM, "batch": 2, "rank": 1}}
    script = Path(__file__).parents[2] / "forks.py"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, json.dumps(given)], env=env, check=False, timeout=280)
    assert done.returncode == EXIT_PREEMPTED
