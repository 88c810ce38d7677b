"""Packages of the user's own that are called as ones of this project."""

import os
import subprocess
import sys
from pathlib import Path


def own_package(folder, name):
    """A package of the user's own that is called as one of this project's."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    return folder / name


def run_in(folder, *words, **environment):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    command = [sys.executable, "-m", "fcot", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_folders_of_ones_own_may_have_the_names_of_this_projects(tmp_path):
    for name in ("callbacks", "shards"):
        own_package(tmp_path, name)
    assert "data.root and model must be given" in run_in(tmp_path, "fit").stderr
    done = run_in(tmp_path, "shards", "build", "--train", "1", "--dev", "0", "--test", "0", "--workers", "1")
    assert done.returncode == 0, done.stderr


def test_a_package_that_hides_this_projects_is_named(tmp_path):
    hiding = own_package(tmp_path, "callbacks")
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    (tmp_path / "elsewhere").mkdir()
    done = run_in(tmp_path / "elsewhere", "fit", PYTHONPATH=path)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith(f"error: {hiding} ") and "Rename it" in lines[1]
