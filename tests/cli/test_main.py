"""A fault of the user's is said in two lines; one of this project's keeps its traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcot.cli.main import innermost, main
from fcot.errors import UserError


@pytest.mark.parametrize("called", ["fcot.training.base_task.ModelFolder", "fcot.training.sft.StudentTeacher"])
def test_an_unexpected_error_keeps_its_traceback(called, run, monkeypatch):
    monkeypatch.setattr(called, lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["fit", "--config", "run.yaml"])


def test_an_error_of_a_data_worker_is_shown_without_its_wrapping():
    wrapped = "Caught UserError in worker 0.\nTraceback:\n  line 3\nfcot.errors.UserError: Too many bad.\nMend them."
    assert innermost(wrapped) == "Too many bad.\nMend them."


@pytest.mark.parametrize("fault", [ValueError, RuntimeError, KeyError])
def test_a_fault_of_fcots_keeps_its_traceback(fault, monkeypatch):
    def fails(*_):
        raise fault("a fault of ours")

    monkeypatch.setattr("fcot.doctor.devices.devices", fails)
    with pytest.raises(fault, match="a fault of ours"):
        main(["doctor"])


def test_a_fault_of_the_users_is_two_lines_wherever_it_is_found(monkeypatch, capsys):
    def fails(*_):
        raise UserError("A value is wrong.\nGive another.")

    monkeypatch.setattr("fcot.doctor.devices.devices", fails)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: A value is wrong.\nGive another.\n"


def test_a_package_that_is_too_old_to_start_with_is_named_with_what_to_install(tmp_path):
    (tmp_path / "jsonargparse.py").write_text("raise ImportError('cannot import name set_parsing_settings')")
    (tmp_path / "jsonargparse-4.0.dist-info").mkdir()
    (tmp_path / "jsonargparse-4.0.dist-info" / "METADATA").write_text("Name: jsonargparse\nVersion: 4.0\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-m", "fcot", "doctor"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot import name set_parsing_settings. ")
    assert "jsonargparse (4.0).\nInstall them: pip install 'jsonargparse<" in done.stderr
