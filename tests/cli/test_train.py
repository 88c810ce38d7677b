"""A run from the command line: what it leaves in its folder, and how it goes on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fcot.cli.export import restore
from fcot.cli.main import main
from fcot.export.checkpoint import student_folder
from fcot.runtime.checkpoints.preemption import EXIT_PREEMPTED

STOPPER = """
import os, signal
from pathlib import Path
from lightning.pytorch import Callback


class Stopper(Callback):
    def __init__(self, killed_at: int = -1, left_at: int = -1) -> None:
        self.killed_at, self.left_at = killed_at, left_at

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.left_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with Path("steps.txt").open("a") as file:
            print(trainer.global_step, file=file)
"""


def test_a_killed_run_resumes_from_its_last_checkpoint(run, monkeypatch, tmp_path):
    Path("stopper.py").write_text(STOPPER)
    words = ["fit", "--config", "run.yaml", "--trainer.callbacks+=stopper.Stopper"]
    command = [sys.executable, "-m", "fcot", *words, "--trainer.callbacks.killed_at", "5"]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    main([*words, "--ckpt_path", "last"])
    assert Path("steps.txt").read_text().split() == ["0", "1", "2", "3", "4", "4", "5"]
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["step-000004.ckpt", "step-000006.ckpt"]


def test_a_run_folder_holds_a_configuration_that_runs_again(run):
    main(["fit", "--config", "run.yaml", "--trainer.max_steps", "1"])
    saved = Path("run/config.yaml").read_text()
    settings = yaml.safe_load(saved)
    assert settings["trainer"]["max_steps"] == 1
    assert settings["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.AdamW"
    main(["fit", "--config", "run/config.yaml"])
    main(["test", "--config", "run.yaml", "--ckpt_path", "last"])
    assert Path("run/config.yaml").read_text() == saved
    assert Path("run/config_test.yaml").is_file()


LOGGED = """\
  logger:
    class_path: CSVLogger
    init_args: {save_dir: logs}
  callbacks:
    - class_path: LearningRateMonitor
    - class_path: ModelCheckpoint
      init_args: {every_n_train_steps: 3, save_top_k: -1}
    - class_path: Timer
      init_args: {duration: "00:01:00:00"}
    - class_path: Snapshots
      init_args: {count: 2}
    - class_path: ShapleyMerge
      init_args: {value: tokens, samples: 2, random_draws: 1}
    - class_path: TaskLosses
    - class_path: stopper.Stopper
"""


def test_what_a_run_makes_lies_in_its_folder_once_whatever_logs_it(run, monkeypatch, tmp_path):
    """The logger has a folder of its own, and another one after a resume."""
    run("  enable_progress_bar: false\n", "  enable_progress_bar: false\n" + LOGGED)
    Path("stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(tmp_path)
    stop = ["--trainer.callbacks.left_at", "4"]
    with pytest.raises(SystemExit) as left:
        main(["fit", "--config", "run.yaml", *stop])
    assert left.value.code == EXIT_PREEMPTED
    main(["fit", "--config", "run.yaml", "--ckpt_path", "last"])
    main(["test", "--config", "run.yaml", "--ckpt_path", "last"])
    assert {path.name for path in Path("logs/lightning_logs").iterdir()} == {"version_0", "version_1", "version_2"}
    assert {path.name for path in Path("logs").rglob("*.*")} <= {"metrics.csv", "hparams.yaml"}
    files = ["config.yaml", "config_test.yaml", "task_losses.json", "test.json", "test.jsonl"]
    folders = ["checkpoints", "merged", "merged.cache", "snapshots"]
    assert sorted(path.name for path in Path("run").iterdir()) == sorted(files + folders)
    theirs, own = ["epoch=0-step=3.ckpt", "epoch=0-step=6.ckpt"], ["step-000004.ckpt", "step-000006.ckpt"]
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == theirs + own
    assert (
        yaml.safe_load(Path("run/config.yaml").read_text())["trainer"]["callbacks"][2]["init_args"]["interval"]
        == "step"
    )
    with student_folder(Path("run"), tmp_path, restore) as (found, _):
        assert found == Path("run/merged")


def test_a_metric_that_early_stopping_misses_is_named(run, refusal):
    run("  limit_val_batches: 0\n", "  limit_val_batches: 1\n  val_check_interval: 2\n")
    error = refusal(
        ["fit", "--config", "run.yaml", "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=no"]
    )
    assert "metric `no` which is not available" in error


def test_resuming_without_a_checkpoint_starts_anew_and_says_so(run, tmp_path, capsys):
    main(["fit", "--config", "run.yaml", "--trainer.max_steps", "1", "--ckpt_path", "last"])
    told = f"There is no checkpoint to go on from in {tmp_path}/run/checkpoints: this run begins anew.\n"
    assert told in capsys.readouterr().out
    assert Path("run/checkpoints/step-000001.ckpt").is_dir()


def test_a_test_of_the_last_checkpoint_needs_one(run, refusal):
    error = refusal(["test", "--config", "run.yaml", "--ckpt_path", "last"])
    assert "There is no last checkpoint in run" in error


class MakesFolder:
    def __reduce__(self):
        return Path.mkdir, (Path("made"),)


def test_a_checkpoint_with_code_in_it_is_refused_unread(run, refusal):
    torch.save({"state_dict": {}, "evil": MakesFolder()}, "evil.ckpt")
    error = refusal(["fit", "--config", "run.yaml", "--ckpt_path", "evil.ckpt"])
    assert "evil.ckpt is no checkpoint of tensors" in error
    assert not Path("made").exists()
