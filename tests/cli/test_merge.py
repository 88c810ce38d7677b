"""The verb `merge` does what the end of a run did."""

import json
import shutil
from pathlib import Path

import pytest

from fcot.cli.main import main

SFT_TINY = str(Path(__file__).parents[2] / "configs" / "sft_tiny.yaml")


@pytest.fixture
def run(tmp_path, student_folder, tiny_shards):
    """A short run in mixed precision with a frozen vision tower, which is in bf16 then."""
    words = {
        "config": SFT_TINY,
        "model.checkpoint": student_folder,
        "model.max_length": 512,
        "model.max_new_tokens": 2,
        "data.root": tiny_shards,
        "data.recipe": "null",
        "data.batch_size": 2,
        "data.num_workers": 0,
        "trainer.precision": "bf16-mixed",
        "trainer.max_steps": 2,
        "trainer.default_root_dir": tmp_path / "run",
    }
    main(["fit", *(word for name, value in words.items() for word in (f"--{name}", str(value)))])
    return tmp_path / "run"


def merged_of(run):
    report = json.loads((run / "merged" / "merge.json").read_text())
    return {**report, "wall_seconds": 0}, (run / "merged" / "model.safetensors").read_bytes()


def test_a_merge_scored_anew_is_the_one_of_the_run(run, capsys):
    before = merged_of(run)
    shutil.rmtree(run / "merged.cache")
    with pytest.raises(SystemExit):
        main(["merge", str(run)])
    assert "Give --overwrite true, or --output FOLDER" in capsys.readouterr().err
    main(["merge", str(run), "--overwrite", "true"])
    assert merged_of(run) == before


@pytest.mark.parametrize("missing", ["base", "step-000001/model.safetensors"])
def test_weights_that_are_missing_are_named_before_any_work(run, missing, capsys, monkeypatch):
    path = run / "snapshots" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.setattr("fcot.training.base_task.BaseTask.configure_model", None)
    with pytest.raises(SystemExit) as stopped:
        main(["merge", str(run), "--overwrite", "true"])
    error = capsys.readouterr().err.strip().splitlines()
    error = error[next(number for number, line in enumerate(error) if line.startswith("error: ")) :]
    assert stopped.value.code == 2
    assert error[0].startswith(f"error: {run / 'snapshots' / missing.partition('/')[0]} cannot be merged (")
    assert len(error) == 2
    assert "Give another base: final" in error[1] if missing == "base" else "to merge the others" in error[1]


def test_a_run_of_devices_that_are_not_here_is_refused_in_a_few_lines(run, capsys):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("accelerator: cpu", "accelerator: mps"))
    with pytest.raises(SystemExit):
        main(["merge", str(run), "--overwrite", "true"])
    error = capsys.readouterr().err.strip()
    assert "config.yaml cannot be followed on this machine" in error
    assert len(error.splitlines()) <= 6
