"""Snapshots are taken when they are due, and belong to one run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from callbacks import Snapshots
from fcot.errors import UserError
from fcot.training.sft import SFT


def test_a_run_started_again_replaces_the_snapshots_of_the_one_before(tmp_path, student_folder, pages, trainer):
    snapshots = tmp_path / "snapshots"
    for peak in (0.01, 0.02):
        module = SFT(student_folder, optimizer=lambda p, peak=peak: torch.optim.AdamW(p, lr=peak))
        trainer(tmp_path, Snapshots(count=2), max_steps=4).fit(module, pages)
        (snapshots / "step-000005.tmp-17").mkdir(exist_ok=True)  # of a run that was killed
    last = load_file(snapshots / "step-000004" / "model.safetensors")
    assert all(torch.equal(tensor, last[name]) for name, tensor in module.pair.student.state_dict().items())
    kept = Snapshots(count=2, dirpath=snapshots)
    assert list(kept.folders()) == ["step-000002", "step-000004"]  # what is half written does not count
    trainer(tmp_path, Snapshots(count=1), max_steps=1).fit(SFT(student_folder), pages)
    assert sorted(path.name for path in snapshots.iterdir()) == ["base", "step-000001"]


def test_a_run_that_goes_on_for_longer_leaves_out_what_is_not_due_in_it(tmp_path):
    for step in (3, 6, 9, 16, 24, 32, 40):
        (tmp_path / f"step-{step:06d}").mkdir()
    snapshots = Snapshots(count=5, dirpath=tmp_path)
    assert len(snapshots.folders()) == 7
    snapshots.max_steps = 40
    assert list(snapshots.folders()) == ["step-000016", "step-000024", "step-000032", "step-000040"]


def test_gradient_accumulation_takes_each_snapshot_once(tmp_path, student_folder, pages, monkeypatch, trainer):
    written = []
    monkeypatch.setattr(Snapshots, "_write", lambda self, module, name: written.append(name))
    trainer(tmp_path, Snapshots(count=2), max_steps=2, accumulate_grad_batches=2).fit(SFT(student_folder), pages)
    assert written == ["base", "step-000001", "step-000002"]


def test_snapshots_are_evenly_spaced_and_end_with_the_last_step():
    assert Snapshots(count=5).due(100) == [20, 40, 60, 80, 100]
    assert Snapshots(count=3).due(10) == [3, 7, 10]
    assert Snapshots(count=5).due(2) == [1, 2]
    assert all(Snapshots(count=n).due(700) == [round(700 * (i + 1) / n) for i in range(n)] for n in range(1, 9))
    with pytest.raises(UserError, match=r"count is 0\. Keep at least one"):
        Snapshots(count=0)


def test_snapshots_may_be_taken_from_the_later_part_of_a_run():
    assert Snapshots(count=5, after=0.5).due(100) == [60, 70, 80, 90, 100]
    assert Snapshots(count=1, after=0.9).due(100) == [100]
    for after in (-0.1, 1.0, 50.0):
        with pytest.raises(UserError, match="a share of the steps"):
            Snapshots(after=after)


def test_a_merge_starts_from_the_start_the_last_snapshot_or_a_model_folder(tmp_path):
    for name in ("base", "step-000002", "step-000010"):
        (tmp_path / name).mkdir()
    snapshots = Snapshots(dirpath=tmp_path)
    assert snapshots.base_of("init") == tmp_path / "base"
    assert snapshots.base_of("final") == tmp_path / "step-000010"
    assert snapshots.base_of("models/theirs") == Path("models/theirs")
