"""A merge at size: what is merged, and that time and memory are those of the process that merges."""

import json
import sys
from pathlib import Path

import pytest
import torch

from fcot.bench.merge import measured, merge, mergekit_config
from fcot.bench.merge_checkpoints import Shape, make_checkpoints
from fcot.bench.process import spent_by
from fcot.errors import UserError
from fcot.files.weights import open_weights

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peaks from Linux's /proc")
SMALL = Shape(layers=1, width=32, vocabulary=100)


def test_a_shape_has_about_the_parameters_asked_for():
    shape = Shape.of(1e9, 2048, 92553)
    assert abs(shape.parameters / 1e9 - 1) < 0.04
    assert Shape.of(shape.parameters, 2048, 92553) == shape
    with pytest.raises(UserError, match="fewer than a model of one layer"):
        Shape.of(1e8, 2048, 92553)


def test_checkpoints_are_near_the_base_and_made_once(tmp_path):
    folders = make_checkpoints(tmp_path / "made", SMALL, 3)
    base, first, second = (open_weights(folder)["lm_head.weight"].float() for folder in folders)
    assert 0 < (first - base).std() < 0.2 * base.std()
    assert not torch.equal(first, second)
    before = [(folder / "model.safetensors").stat().st_mtime_ns for folder in folders]
    assert make_checkpoints(tmp_path / "made", SMALL, 3) == folders
    assert [(folder / "model.safetensors").stat().st_mtime_ns for folder in folders] == before
    with pytest.raises(UserError, match="holds other checkpoints"):
        make_checkpoints(tmp_path / "made", SMALL, 4)
    with pytest.raises(UserError, match=r"lacks 2\.0 GB"):
        make_checkpoints(tmp_path / "other", SMALL, 3, lacking=2 * 10**9)


def test_time_and_peak_are_those_of_the_process():
    idle, busy = (
        spent_by([sys.executable, "-c", f"import time; x = bytearray({size}); time.sleep({pause})"])
        for size, pause in ((1, 0.0), (50_000_000, 0.3))
    )
    assert 45e6 < busy.peak_bytes - idle.peak_bytes < 60e6
    assert 0.3 <= busy.seconds < 10
    with pytest.raises(UserError, match="failed: no such luck"):
        spent_by([sys.executable, "-c", "raise SystemExit('no such luck')"])
    with pytest.raises(UserError, match="cannot be run"):
        spent_by(["/nowhere/mergekit-yaml"])


def test_mergekit_is_asked_for_the_same_merge():
    folders = [Path(f"/m/{place}") for place in range(4)]
    linear, ties = (mergekit_config(folders, method, 0.3) for method in ("linear", "ties"))
    assert linear.count("weight: 0.25") == 4 and "merge_method: linear" in linear
    assert "base_model: /m/0\n" in ties and ties.count("weight: 1.0, density: 0.3") == 3 and "model: /m/0," not in ties


@pytest.mark.slow
def test_the_bench_in_small_beside_a_program_in_mergekits_place(tmp_path):
    stand_in = tmp_path / "mergekit-yaml"
    stand_in.write_text(f"#!{sys.executable}\nimport sys, pathlib\npathlib.Path(sys.argv[2]).mkdir()\n")
    stand_in.chmod(0o755)
    found = tmp_path / "found.json"
    merge(1e5, 3, width=64, vocabulary=200, folder=tmp_path / "here", mergekit=str(stand_in), json=str(found))
    results = json.loads(found.read_text())
    for method in ("linear", "ties"):
        ours, other = results[method]["fcot"], results[method]["mergekit"]
        assert ours["seconds"] > other["seconds"] > 0
    assert not (tmp_path / "here" / "merged").exists()
    assert measured([*(tmp_path / "here/small").glob("checkpoint-*")], "ties", 0.5, None, tmp_path).peak_bytes > 1e7
