"""A student can be exported from a checkpoint of a run that did not end."""

import shutil

import pytest
import yaml
from safetensors.torch import load_file

from fcot.cli.main import main
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.names import in_memory


@pytest.fixture(scope="module")
def run(tiny_checkpoint, tiny_shards, tmp_path_factory):
    """A run of two steps of re-alignment."""
    folder = tmp_path_factory.mktemp("run")
    optimizer = {"class_path": "AdamW", "init_args": {"lr": 0.01}}
    settings = {
        "trainer": {
            "max_steps": 2,
            "checkpoint_every_n_steps": 1,
            "accelerator": "cpu",
            "default_root_dir": str(folder),
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "SaveStudent"}],
        },
        "model": {
            "class_path": "Realign",
            "init_args": {"checkpoint": str(tiny_checkpoint), "ratio": 4, "optimizer": optimizer, "max_tiles": 3},
        },
        "data": {"root": str(tiny_shards), "batch_size": 4, "num_workers": 0},
    }
    (folder / "given.yaml").write_text(yaml.safe_dump(settings))
    main(["fit", "--config", str(folder / "given.yaml")])
    return folder


def test_a_checkpoint_gives_the_student_that_was_saved(run, tiny_checkpoint, tmp_path):
    main(["export", str(run / "checkpoints" / "step-000002.ckpt"), str(tmp_path / "out")])
    expected = load_file(run / "student" / "model.safetensors")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    start = load_file(tiny_checkpoint / "model.safetensors")["multi_modal_projector.linear_1.weight"]
    assert not found["model.multi_modal_projector.linear_1.weight"].equal(start)
    assert ModelFolder(tmp_path / "out").max_tiles == ModelFolder(run / "student").max_tiles == 3
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| base | {tiny_checkpoint.name} |" in card and "AdamW(lr=0.01" in card and "max_steps 2" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_checkpoint_of_a_run_in_mixed_precision_gives_its_student(run, tiny_checkpoint, tmp_path):
    given = ["--config", str(run / "given.yaml"), "--trainer.default_root_dir", str(tmp_path / "mixed")]
    main(["fit", *given, "--trainer.precision", "bf16-mixed"])
    main(["export", str(tmp_path / "mixed" / "checkpoints" / "step-000002.ckpt"), str(tmp_path / "out")])
    found = load_file(tmp_path / "out" / "model.safetensors")
    learned = load_file(tmp_path / "mixed" / "student" / "model.safetensors")
    base = {in_memory(name): tensor for name, tensor in load_file(tiny_checkpoint / "model.safetensors").items()}
    for name, tensor in found.items():
        assert tensor.equal((learned if ".multi_modal_projector." in name else base)[name]), name
    main(["test", *given, "--ckpt_path", "last", "--trainer.precision", "32-true"])
    assert (tmp_path / "mixed" / "test.json").is_file()


def refusal(capsys, checkpoint, output):
    with pytest.raises(SystemExit):
        main(["export", str(checkpoint), str(output)])
    return capsys.readouterr().err


def test_a_checkpoint_outside_its_run_is_refused(run, tmp_path, capsys):
    alone = tmp_path / "step-000002.ckpt"
    shutil.copytree(run / "checkpoints" / alone.name, alone)
    assert "lies in no run folder" in refusal(capsys, alone, tmp_path / "out")


def test_a_run_without_a_student_is_refused(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("model: {}")
    assert "has neither merged nor student in it" in refusal(capsys, tmp_path, tmp_path / "out")


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert "There is no model folder at" in refusal(capsys, tmp_path / "none", tmp_path / "out")
