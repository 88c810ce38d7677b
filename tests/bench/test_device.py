"""The device check on this machine's CPU: all cells run, and whatever stops it, the results so far are whole."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from fcot.bench import device as check
from fcot.bench.device_cells import Cell, cells, full, tiny
from fcot.bench.device_runs import context, run
from fcot.bench.device_tables import as_markdown
from fcot.cli.commands import VERBS
from fcot.errors import UserError

ROOT = Path(__file__).parents[2]
QUICK = "loss --rows 4 --width 4 --vocabulary 8 --repeats 1"
CPU_ONLY = os.environ | {"CUDA_VISIBLE_DEVICES": ""}


def started(output, *options):
    words = [sys.executable, "-m", "fcot", "bench", "device", "--size", "tiny", "--output", str(output), *options]
    return subprocess.Popen(words, cwd=ROOT, env=CPU_ONLY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_every_cell_runs_on_a_tiny_model_and_says_that_there_is_no_accelerator(tmp_path):
    process = started(tmp_path, "--minutes", "2")
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    found = json.loads((tmp_path / "device.json").read_text())
    names = [cell["name"] for cell in found["cells"]]
    assert names == ["tests", *(cell.name for cell in tiny())]
    first, *others = found["cells"]
    assert first["status"] == "not run" and "accelerator" in first["reason"]
    assert [(cell["name"], cell["status"]) for cell in others] == [(cell["name"], "done") for cell in others]
    assert all(cell["found"]["environment"]["torch"] for cell in others)
    assert "no accelerator" in found["note"] and "no accelerator" in said
    page = (tmp_path / "device.md").read_text()
    for title in ("Limits", "Steps of re-alignment", "Steps of post-training", "Answers", "Kernels", "Loss", "Cells"):
        assert f"**{title}" in page
    assert (tmp_path / "device.png").stat().st_size > 10_000


def test_killed_in_the_middle_the_results_so_far_are_whole(tmp_path):
    process, file = (
        started(tmp_path, "--only", "loss", "--only", "preprocess", "--only", "merge"),
        tmp_path / "device.json",
    )
    while not file.is_file():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    found = json.loads(file.read_text())
    assert found["cells"][0]["status"] == "done"
    assert found["cells"][0]["command"] == "fcot bench loss --rows 16 --width 16 --vocabulary 64 --repeats 1"
    assert found["cells"][0]["found"]["chunked"]["seconds"]["median"] > 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("bench loss --rows 0", "failed", "rows is 0"),
        (f"bench {QUICK}", "done", "full logits"),
        ("bench nothing", "failed", "no verb"),
    ],
)
def test_a_cell_that_fails_is_told_with_its_output(tmp_path, words, status, said):
    record = run(Cell("it", tuple(words.split()), 60), get_context("fork"), tmp_path, 60)
    assert record["status"] == status
    assert said in record["output"]
    assert (record["found"] is not None) == (status == "done")


def test_a_cell_that_hangs_is_killed_with_what_it_started(tmp_path):
    hangs = tmp_path / "test_it.py"
    hangs.write_text(
        "import os, pathlib, subprocess, time\n"
        "def test_it():\n"
        f"    child = subprocess.Popen(['sleep', '600'])\n"
        f"    pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "    time.sleep(600)\n"
    )
    cell = Cell("it", ("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(hangs)), 600)
    record = run(cell, get_context("fork"), tmp_path, 5)
    assert record["status"] == "timed out" and record["exit_code"] is None and record["seconds"] < 30
    child = Path("/proc") / (tmp_path / "child").read_text() / "stat"
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_cells_are_chosen_by_the_beginning_of_their_names():
    known = cells("full", None)
    assert [cell.name for cell in check.chosen_cells(known, ["step 8b ratio 2", "loss"])] == ["step 8b ratio 2", "loss"]
    assert check.chosen_cells(known, None) == known
    with pytest.raises(UserError, match="no cell 'stp'"):
        check.chosen_cells(known, ["stp"])


def test_correctness_comes_first_and_every_cell_is_a_command_of_fcot():
    first = cells("full", ROOT / "tests")[0]
    files = {str(Path(word).relative_to(ROOT)) for word in first.words if word.endswith(".py")}
    assert first.name == "tests" and "tests/reduce/test_gpu.py" in files
    assert not any("shards/factory" in file or "serve" in file for file in files)  # need more extras
    for cell in (*full(), *tiny()):
        assert " ".join(cell.words[:2]) in VERBS
        assert cell.seconds <= 120
    for size in ("full", "tiny"):
        names = [cell.name for cell in cells(size, None)]
        assert len(set(names)) == len(names)


def test_no_time_left_is_said_of_each_cell_that_did_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "context", lambda: get_context("fork"))
    check.device(tmp_path, minutes=0.0, size="tiny", only=["loss", "merge"])
    found = json.loads((tmp_path / "device.json").read_text())
    assert [(cell["status"], cell["reason"]) for cell in found["cells"]] == [("not run", "no time was left")] * 2
    assert "no time was left" in as_markdown(found) and "no time was left" in capsys.readouterr().out


def test_models_of_real_size_are_refused_without_an_accelerator(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "environment", lambda: {"accelerator": "none"})
    with pytest.raises(UserError, match="no accelerator"):
        check.device(tmp_path)
    with pytest.raises(UserError, match="no size 'tny'"):
        check.device(tmp_path, size="tny")
    assert not list(tmp_path.iterdir())


def test_processes_begin_without_a_device_in_use():
    assert context().get_start_method() == "forkserver"
