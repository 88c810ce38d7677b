"""The command line: what it runs, what it refuses and how it says so."""

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from fcot.cli.commands import VERBS
from fcot.cli.export import restore
from fcot.cli.main import innermost, main
from fcot.errors import UserError
from fcot.export.checkpoint import student_folder
from fcot.runtime.checkpoints.preemption import EXIT_PREEMPTED

RUN = """\
trainer:
  max_steps: 6
  checkpoint_every_n_steps: 2
  accelerator: cpu
  default_root_dir: run
  limit_val_batches: 0
  num_sanity_val_steps: 0
  enable_progress_bar: false
model:
  class_path: SFT
  init_args:
    checkpoint: {checkpoint}
    max_new_tokens: 2
    optimizer:
      class_path: AdamW
      init_args: {{lr: 0.001}}
data:
  root: {shards}
  batch_size: 4
  num_workers: 0
  test_samples: 2
"""


@pytest.fixture
def run(tmp_path, monkeypatch, tiny_checkpoint, tiny_shards):
    """Working folder with `run.yaml`; call to change lines of it."""
    monkeypatch.chdir(tmp_path)
    text = RUN.format(checkpoint=tiny_checkpoint, shards=tiny_shards)
    Path("run.yaml").write_text(text)

    def change(old: str, new: str) -> None:
        assert old in text
        Path("run.yaml").write_text(text.replace(old, new))

    return change


def refusal(words, capsys):
    """What a refused command line says, checked to be short."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    error = error[error.index("error: ") :].strip()
    assert len(error.splitlines()) <= 6
    assert "usage:" not in error
    assert "Traceback" not in error
    return error


WRONG_FILES = {
    "key": (
        "max_steps:",
        "max_stepz:",
        ["'trainer.max_stepz' (run.yaml, line 2)", "Did you mean 'trainer.max_steps'?"],
    ),
    "section": ("data:", "dota:", ["no option 'dota.root' (run.yaml, line 18)", "Did you mean 'data.root'?"]),
    "type": ("max_steps: 6", "max_steps: abc", ["trainer.max_steps is 'abc' (run.yaml, line 2)", "must be int"]),
    "class": ("SFT", "SFTT", ["no class 'SFTT' for model (run.yaml, line 10)", "Did you mean 'SFT'?"]),
    "argument": ("max_new_tokens:", "max_tokens:", ["SFT has no argument 'max_tokens' (run.yaml, line 13)", "Did you"]),
    "nested class": (
        "AdamW",
        "AdamX",
        ["no class 'AdamX' for model.optimizer (run.yaml, line 15)", "Did you mean 'Adam"],
    ),
    "nested argument": ("lr:", "lrr:", ["AdamW has no argument 'lrr' (run.yaml, line 16)", "Did you mean 'lr'?"]),
    "nested type": ("max_new_tokens: 2", "max_new_tokens: two", ["model.max_new_tokens is 'two'", "line 13", "int"]),
    "missing module": ("class_path: SFT", "class_path: nowhere.X", ["no module 'nowhere'", "run.yaml, line 10"]),
    "missing class": (
        "class_path: SFT",
        "class_path: fcot.training.sft.SFTT",
        ["fcot.training.sft has no class 'SFTT'", "mean 'SFT'?"],
    ),
    "yaml": ("data:", "data: [", ["run.yaml is not valid YAML near line"]),
    "bad value": ("checkpoint_every_n_steps: 2", "devices: 0", ["devices=0"]),
    "no checkpoint": ("checkpoint: /", "checkpoint: /none/", ["There is no model folder at '/none/", "fetch it first"]),
    "part": ("max_new_tokens: 2", "freeze: [eye]", ["There is no part ['eye']"]),
    "npu": ("accelerator: cpu", "accelerator: npu", ["accelerator is 'npu'", "torch_npu"]),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_configuration_is_refused_with_place_and_remedy(case, run, capsys):
    old, new, expected = WRONG_FILES[case]
    run(old, new)
    error = refusal(["fit", "--config", "run.yaml"], capsys)
    for part in expected:
        assert part in error


WRONG_WORDS = {
    "verb": (["fitt"], ["no verb 'fitt'", "Did you mean 'fit'?"]),
    "tool verb": (["shards", "biuld"], ["no verb 'shards biuld'", "Did you mean 'shards build'?"]),
    "option": (
        ["--trainer.max_stepz", "3"],
        ["'trainer.max_stepz' (command line)", "Did you mean 'trainer.max_steps'?"],
    ),
    "model option": (
        ["--model.optimzer", "SGD"],
        ["no argument 'optimzer' (command line)", "Did you mean 'optimizer'?"],
    ),
    "value": (["--trainer.limit_val_batches", "x"], ["is 'x' (command line)", "It must be", "float", "null"]),
    "callback": (["--trainer.callbacks+=Snapshotz"], ["no class 'Snapshotz'", "Did you mean 'Snapshots'?"]),
    "no value": (["--model.max_tiles"], ["--model.max_tiles has no value"]),
    "stray word": (["again"], ["'again' is neither an option nor the value of one"]),
    "no file": (["--config", "rum.yaml"], ["There is no file 'rum.yaml'", "Did you mean 'run.yaml'?"]),
    "no resume file": (["--ckpt_path", "gone.ckpt"], ["There is no checkpoint at 'gone.ckpt'"]),
    "best": (["--ckpt_path", "best"], ["trained nothing yet", "Give the path"]),
    "no rows": (["--model.chunk_rows", "-1"], ["chunk_rows is -1"]),
    "precision": (["--trainer.precision", "bf16-true"], ["trainer.precision is 'bf16-true'", "Use bf16-mixed"]),
    "compressor": (
        ["--model", "Realign", "--model.compressor", "konv"],
        ["no compressor 'konv'", "Did you mean 'conv'?"],
    ),
    "ratio": (["--model", "Realign", "--model.ratio", "3"], ["3"]),
    "plugin name": (["--plugins", "my-package"], ["'my-package' is no name of a package"]),
    "plugin": (["--plugins", "no_such_package"], ["There is no plugin 'no_such_package'"]),
}


@pytest.mark.parametrize("case", WRONG_WORDS)
def test_a_wrong_word_is_refused_with_the_nearest_right_one(case, run, capsys):
    words, expected = WRONG_WORDS[case]
    error = refusal(words if "verb" in case else ["fit", "--config", "run.yaml", *words], capsys)
    for part in expected:
        assert part in error


def test_missing_options_are_named(capsys):
    assert "data.root and model must be given" in refusal(["fit"], capsys)


def test_missing_arguments_of_a_tool_are_named_with_the_command(capsys):
    assert refusal(["chat", "--image", "form.png"], capsys) == ("error: MODEL is missing.\nWrite fcot chat MODEL …")
    assert "RUN is missing" in refusal(["merge"], capsys)


def test_a_switch_without_a_value_is_answered_with_true(capsys):
    assert "Write --again true." in refusal(["shards", "verify", "set", "--again"], capsys)


@pytest.mark.parametrize("called", ["fcot.training.base_task.ModelFolder", "fcot.training.sft.StudentTeacher"])
def test_an_unexpected_error_keeps_its_traceback(called, run, monkeypatch):
    monkeypatch.setattr(called, lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["fit", "--config", "run.yaml"])


def test_an_error_of_a_data_worker_is_shown_without_its_wrapping():
    wrapped = "Caught UserError in worker 0.\nTraceback:\n  line 3\nfcot.errors.UserError: Too many bad.\nMend them."
    assert innermost(wrapped) == "Too many bad.\nMend them."


# -- what a configuration may import ---------------------------------------------------------------------


@pytest.mark.parametrize("place", ["class_path: SFT", "class_path: AdamW"])
def test_a_configuration_cannot_call_what_is_not_allowed(place, run, capsys):
    run(place, "class_path: os.mkdir")
    error = refusal(["fit", "--config", "run.yaml"], capsys)
    assert "os.mkdir may not be imported" in error
    assert "--plugins" in error


def test_a_package_elsewhere_is_imported_only_when_named(run, capsys, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("installed")
    lines = ["from lightning.pytorch import Callback", "print('imported')", "class Quiet(Callback): pass"]
    (folder / "installed_elsewhere.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)
    words = ["fit", "--config", "run.yaml", "--trainer.fast_dev_run", "true"]
    error = refusal([*words, "--trainer.callbacks+=installed_elsewhere.Quiet"], capsys)
    assert "installed_elsewhere.Quiet may not be imported" in error
    assert "installed_elsewhere" not in sys.modules
    main([*words, "--trainer.callbacks+=Quiet", "--plugins", "installed_elsewhere"])
    assert "imported" in capsys.readouterr().out


# -- verbs -----------------------------------------------------------------------------------------------


def test_every_tool_verb_has_its_function():
    for verb in VERBS.values():
        if verb.target is not None:
            module, name = verb.target.split(":")
            assert callable(getattr(import_module(module), name))


def test_overview_and_tool_help_answer_without_lightning():
    script = """
import sys
from fcot.cli.main import main
main([])
assert not {"torch", "lightning", "jsonargparse"} & set(sys.modules)
for words, light in ((["shards", "build", "--help"], "torch"), (["merge", "--help"], "lightning")):
    try:
        main(words)
    except SystemExit as stopped:
        assert stopped.code == 0
    assert light not in sys.modules, words
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, verb in VERBS.items():
        assert f"  {name} " in done.stdout
        assert verb.summary in done.stdout
    assert "type: Path" in done.stdout and "<class" not in done.stdout


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


@pytest.mark.parametrize("fault", [ValueError, RuntimeError, KeyError])
def test_a_fault_of_fcots_keeps_its_traceback(fault, monkeypatch):
    def fails(*_):
        raise fault("a fault of ours")

    monkeypatch.setattr("fcot.doctor.devices.devices", fails)
    with pytest.raises(fault, match="a fault of ours"):
        main(["doctor"])


def test_a_fault_of_the_users_is_two_lines_wherever_it_is_found(monkeypatch, capsys):
    def fails(*_):
        raise UserError("A value is wrong.\nGive another.")

    monkeypatch.setattr("fcot.doctor.devices.devices", fails)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: A value is wrong.\nGive another.\n"


def test_shards_build_draws_the_sets_asked_for(tmp_path, capsys):
    sizes = ["--train", "3", "--dev", "2", "--test", "0", "--workers", "1"]
    main(["shards", "build", "--recipe", "letters", "--output", str(tmp_path / "set"), *sizes])
    assert sorted(folder.name for folder in (tmp_path / "set").iterdir()) == ["dev", "train"]
    assert "3 pages in 1 shards" in " ".join(capsys.readouterr().out.split())


# -- checkpoints -----------------------------------------------------------------------------------------

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


def test_a_metric_that_early_stopping_misses_is_named(run, capsys):
    run("  limit_val_batches: 0\n", "  limit_val_batches: 1\n  val_check_interval: 2\n")
    error = refusal(
        ["fit", "--config", "run.yaml", "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=no"], capsys
    )
    assert "metric `no` which is not available" in error


def test_resuming_without_a_checkpoint_starts_anew_and_says_so(run, tmp_path, capsys):
    main(["fit", "--config", "run.yaml", "--trainer.max_steps", "1", "--ckpt_path", "last"])
    told = f"There is no checkpoint to go on from in {tmp_path}/run/checkpoints: this run begins anew.\n"
    assert told in capsys.readouterr().out
    assert Path("run/checkpoints/step-000001.ckpt").is_dir()


def test_a_test_of_the_last_checkpoint_needs_one(run, capsys):
    error = refusal(["test", "--config", "run.yaml", "--ckpt_path", "last"], capsys)
    assert "There is no last checkpoint in run" in error


class MakesFolder:
    def __reduce__(self):
        return Path.mkdir, (Path("made"),)


def test_a_checkpoint_with_code_in_it_is_refused_unread(run, capsys):
    torch.save({"state_dict": {}, "evil": MakesFolder()}, "evil.ckpt")
    error = refusal(["fit", "--config", "run.yaml", "--ckpt_path", "evil.ckpt"], capsys)
    assert "evil.ckpt is no checkpoint of tensors" in error
    assert not Path("made").exists()
