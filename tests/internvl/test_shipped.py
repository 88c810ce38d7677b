"""The tiny models are found by the name that they have in a clone, wherever a command is run."""

from pathlib import Path

import pytest

import fcot
from fcot.cli.main import main
from fcot.internvl.checkpoint import ModelFolder

TINY = Path(fcot.__file__).parent / "tiny"
FORM = Path(fcot.__file__).parents[1] / ".github" / "images" / "form.png"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_what_is_below_the_working_folder_comes_first(tiny_checkpoint):
    mine = Path("fcot/tiny/teacher")
    assert ModelFolder(mine).path == TINY / "teacher"
    mine.parent.mkdir(parents=True)
    mine.symlink_to(tiny_checkpoint)
    assert ModelFolder(mine).path == mine


@pytest.mark.parametrize("name", ["fcot/tiny/tutor", "tiny/teacher", "fcot/tiny"])
def test_other_names_are_no_models(name, capsys):
    with pytest.raises(SystemExit):
        main(["chat", name])
    assert f"There is no model folder at '{name}'" in capsys.readouterr().err


def test_chat_finds_the_student(capsys):
    main(["chat", "fcot/tiny/student", "--image", str(FORM), "--question", "City?", "--max_new_tokens", "20"])
    assert "> City?\nChanpatia\n" in capsys.readouterr().out


def test_doctor_finds_the_student(capsys):
    main(["doctor", "--checkpoint", "fcot/tiny/student", "--page", "448x448"])
    assert "nothing was found" in capsys.readouterr().out


def test_training_finds_the_teacher(tiny_shards, capsys):
    config = f"""\
model:
  class_path: Realign
  init_args: {{checkpoint: fcot/tiny/teacher, compressor: conv, ratio: 2, max_new_tokens: 2}}
trainer: {{accelerator: cpu, default_root_dir: run, enable_progress_bar: false}}
data: {{root: {tiny_shards}, batch_size: 2, eval_batch_size: 2, num_workers: 0}}
"""
    Path("run.yaml").write_text(config, encoding="utf-8")
    main(["fit", "--config", "run.yaml", "--trainer.fast_dev_run", "true"])
    assert "Re-alignment trains" in capsys.readouterr().out
