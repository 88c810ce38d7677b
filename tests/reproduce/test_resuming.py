"""Folders of experiments are gone on with, and only one call works in them at a time."""

import subprocess
import sys
import time

import pytest

from fcot.errors import UserError
from fcot.reproduce.resuming import held_folder, take_up

KILLED = """
import os, subprocess, sys
from pathlib import Path
from fcot.reproduce.resuming import held_folder
with held_folder(Path(sys.argv[1])) as held:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"], pass_fds=(held,))
    os._exit(9)  # what was started goes on
"""


def test_only_an_earlier_part_of_the_same_work_is_taken_up(tmp_path):
    take_up(tmp_path / "run", {"steps": {2: 100}}, "work.json")
    take_up(tmp_path / "run", {"steps": {2: 100}}, "work.json")
    for other in ({"steps": {2: 1}}, {}):
        with pytest.raises(UserError, match="holds something else"):
            take_up(tmp_path / "run", other, "work.json")
    with pytest.raises(UserError, match="holds something else"):
        take_up(tmp_path / "run", {"steps": {2: 100}}, "other.json")


def test_a_folder_is_held_until_the_processes_of_a_killed_call_have_ended(tmp_path, capsys):
    begun = time.monotonic()
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == 9
    with held_folder(tmp_path):
        assert time.monotonic() - begun > 3
    assert "Processes of an earlier call still work in" in capsys.readouterr().out
    with held_folder(tmp_path):
        pass
    assert not capsys.readouterr().out
