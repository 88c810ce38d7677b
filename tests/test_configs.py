"""Every configuration runs through the real command line, on a model and pages small enough for a test."""

from pathlib import Path

import pytest
import yaml

from fcot.cli.main import main
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher

CONFIGS = Path(__file__).parents[1] / "configs"
RUNS = sorted(path.name for path in CONFIGS.glob("*.yaml"))
OVERLAYS = sorted(path.name for path in (CONFIGS / "trainer").glob("*.yaml"))


@pytest.fixture(scope="session")
def tiny_student(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    pair = StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2)
    save_student(pair.student, folder, tiny_checkpoint)
    return folder


@pytest.fixture
def overlay(tmp_path, tiny_shards):
    """What every run needs to fit on a test machine; model settings stay the configuration's own."""

    def write(checkpoint: Path) -> str:
        settings = {
            "trainer": {
                "accelerator": "cpu",
                "devices": 1,
                "strategy": "auto",
                "precision": "32-true",
                "default_root_dir": str(tmp_path / "run"),
            },
            "model": {"init_args": {"checkpoint": str(checkpoint), "max_length": 512, "max_tiles": 2}},
            "data": {"root": str(tiny_shards), "batch_size": 2, "num_workers": 0, "recipe": None},
        }
        path = tmp_path / "overlay.yaml"
        path.write_text(yaml.safe_dump(settings))
        return str(path)

    return write


@pytest.mark.parametrize("name", RUNS)
def test_configuration_runs_one_batch(name, overlay, tiny_checkpoint, tiny_student):
    checkpoint = tiny_student if name.startswith("sft") else tiny_checkpoint
    main(["fit", "--config", str(CONFIGS / name), "--config", overlay(checkpoint), "--trainer.fast_dev_run", "true"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_device_overlay_goes_with_a_run(name, overlay, tiny_checkpoint):
    configs = [str(CONFIGS / "realign_8b.yaml"), str(CONFIGS / "trainer" / name), overlay(tiny_checkpoint)]
    words = [word for path in configs for word in ("--config", path)]
    main(["fit", *words, "--trainer.fast_dev_run", "true"])


@pytest.mark.parametrize("name", ["realign_1b.yaml", "realign_2b.yaml", "realign_8b.yaml"])
def test_missing_checkpoint_says_which_folder_and_how_to_get_it(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(CONFIGS / name)])
    error = capsys.readouterr().err.strip()
    size = name[8:10].upper()
    assert stopped.value.code == 2
    assert len(error.splitlines()) <= 6
    assert f"checkpoints/InternVL2-{size}" in error
    assert "download" in error


def test_assumed_values_are_marked():
    for path in CONFIGS.glob("*_[128]b.yaml"):
        lines = [line for line in path.read_text().splitlines() if " lr:" in line or "{lr:" in line]
        assert lines, path
        assert all("assumed" in line for line in lines), path


@pytest.mark.parametrize("name", RUNS)
def test_a_run_validates_more_than_once_and_at_its_end(name):
    settings = yaml.safe_load((CONFIGS / name).read_text())
    trainer, samples = settings["trainer"], settings["data"].get("recipe_samples")
    if trainer.get("limit_val_batches") == 0:
        assert "dev" not in samples
        return
    batches = trainer["max_steps"] * trainer.get("accumulate_grad_batches", 1)  # an interval counts these, not steps
    interval = trainer["val_check_interval"]
    if trainer.get("check_val_every_n_epoch", 1) is not None:  # counted anew in each pass, which must be long enough
        assert batches <= samples["train"] / settings["data"]["batch_size"]
    assert 2 <= batches // interval <= 10
    assert batches % interval == 0
