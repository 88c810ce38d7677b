import os
from pathlib import Path

import pytest

from fcot.cli import main
from fcot.convert.on_the_way import native_folder
from fcot.convert.original import convert_to_original
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder

REALIGN = Path(__file__).parents[2] / "configs" / "realign_tiny.yaml"


@pytest.fixture
def original(tiny_checkpoint, tmp_path):
    """The tiny world's teacher in the original layout."""
    convert_to_original(tiny_checkpoint, tmp_path / "teacher")
    return tmp_path / "teacher"


def test_a_folder_in_the_original_layout_is_converted_beside_itself_once(original, capsys):
    native = native_folder(original)
    assert native == original.with_name("teacher-native")
    assert ModelFolder(native).config.model_type == "internvl"
    assert f"converting it to {native}" in capsys.readouterr().out
    written = (native / "model.safetensors").stat().st_mtime_ns
    assert native_folder(original) == native
    assert (native / "model.safetensors").stat().st_mtime_ns == written
    assert capsys.readouterr().out == ""


def test_other_folders_are_left_as_they_are(tiny_checkpoint, tmp_path):
    assert native_folder(tiny_checkpoint) == tiny_checkpoint
    assert native_folder(tmp_path / "nowhere") == tmp_path / "nowhere"


def test_a_folder_that_changed_since_is_not_silently_taken_for_the_old_one(original):
    native = native_folder(original)
    later = (native / "config.json").stat().st_mtime + 5
    os.utime(original / "model.safetensors", (later, later))
    with pytest.raises(UserError, match=r"model\.safetensors is newer than .*teacher-native"):
        native_folder(original)


def test_a_model_folder_in_the_original_layout_names_the_one_command(original):
    with pytest.raises(UserError, match=r"python -m fcot convert \S+teacher \S+teacher-native"):
        ModelFolder(original)


def test_what_a_folder_lacks_is_said_when_it_is_converted_and_when_it_is_needed(make_original, capsys):
    native = native_folder(make_original("internlm2"))
    assert "no tokenizer files" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"-native has no tokenizer \(tokenizer.json or tokenizer.model\)"):
        ModelFolder(native).encoder()


def test_realignment_runs_from_the_original_layout_with_one_line_changed(original, tiny_shards, tmp_path, capsys):
    options = {
        "--model.checkpoint": original,  # the one line; the rest makes the run short
        "--model.max_new_tokens": 4,
        "--data.root": tiny_shards,
        "--data.recipe": "null",
        "--data.batch_size": 2,
        "--data.eval_batch_size": 2,
        "--data.num_workers": 0,
        "--trainer.fast_dev_run": "true",
        "--trainer.default_root_dir": tmp_path / "run",
    }
    main(["fit", "--config", str(REALIGN), *(str(word) for option in options.items() for word in option)])
    assert (tmp_path / "teacher-native" / "model.safetensors").is_file()
    assert "Re-alignment trains" in capsys.readouterr().out
