"""A job refuses a machine that would leave half a set, or other bytes."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcot.errors import UserError
from shards.engines import fitness
from shards.engines.fitness import checked
from tests.shards.engines.jobs import where

ROOT = Path(__file__).parents[3]


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A job as it comes to a worker, and its argument."""
    monkeypatch.setattr(fitness, "PATIENCE_SECONDS", 0.0)
    (tmp_path / "page").write_text("read", encoding="utf-8")
    with checked(where, tmp_path / "driver") as job:
        yield pickle.loads(pickle.dumps(job))


def test_a_job_runs_in_the_folder_of_the_command(sent, tmp_path, monkeypatch):
    folder = Path.cwd()
    monkeypatch.chdir(tmp_path)  # as a worker may have been started anywhere
    assert sent(tmp_path / "page") == (folder, "read")


def test_a_worker_that_does_not_see_the_folder_is_refused(sent, tmp_path):
    (tmp_path / "driver").unlink()
    with pytest.raises(
        UserError, match=r"does not see .*driver, which the command has written\.\nPut the set on a file"
    ):
        sent(tmp_path / "page")


def test_a_job_that_is_left_of_a_killed_command_does_not_write_into_the_next_ones_set(sent, tmp_path):
    with (
        checked(where, tmp_path / "driver") as new,
        pytest.raises(UserError, match="now belongs to another command"),
    ):
        sent(tmp_path / "page")
    assert not (tmp_path / "driver").exists()
    assert new.value != sent.value


def test_a_worker_with_another_version_of_what_draws_is_refused(sent, tmp_path, monkeypatch):
    monkeypatch.setattr(fitness, "versions", lambda: {**sent.versions, "pillow": "1.0"})
    with pytest.raises(UserError, match=r"has pillow 1\.0, and the machine of the command has .*\nInstall the same"):
        sent(tmp_path / "page")


def test_workers_of_a_killed_command_end(tmp_path):
    """Python's own would take what is queued and wait for ever; a set drawn anew could get their shards."""
    code = (
        "import sys, time; from pathlib import Path; from shards.engines import Local\n"
        "from tests.shards.engines.jobs import rest\n"
        "if __name__ == '__main__': list(Local(workers=2).map(rest, [(Path(sys.argv[1]) / str(n),) for n in range(4)]))"
    )
    (tmp_path / "command.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = subprocess.Popen([sys.executable, tmp_path / "command.py", tmp_path], env=environment)
    until = time.monotonic() + 60
    while len(pids := [each.read_text() for each in tmp_path.glob("[0-9]")]) < 2 or not all(pids):
        assert command.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    command.send_signal(signal.SIGKILL)
    command.wait()
    while any(_lives(int(pid)) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(list(tmp_path.glob("[0-9]"))) == 2


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
