"""Lightning's own callbacks and loggers, through the command line: short runs, asked to leave, killed, resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from fcot.runtime.checkpoints.preemption import EXIT_PREEMPTED

WATCH = """
import json, os
from pathlib import Path
from lightning.pytorch import Callback
from fcot.runtime.checkpoints.exact_resume import ExactResume


class Watch(Callback):
    '''Notes each batch, and sends this process a signal after one of them.'''

    def __init__(self, number: int = 0, batch: int = -1) -> None:
        self.number, self.batch = number, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        done = next(c for c in trainer.callbacks if isinstance(c, ExactResume)).total
        row = [done, trainer.global_step, outputs["loss"].item(), batch.keys]
        with Path("batches.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\\n")
        if done == self.batch:
            os.kill(os.getpid(), self.number)
"""


def part(name, **arguments):
    return {"class_path": name, "init_args": arguments}


# what lies in a run folder whatever happened; loggers are elsewhere
CSV = part("CSVLogger", save_dir="logs")
GROUPS = {
    "csv": {
        "logger": CSV,
        "callbacks": [
            part("LearningRateMonitor"),
            part("ModelCheckpoint", monitor="val/loss", save_last=True, save_top_k=2),
            part("RichProgressBar"),
        ],
    },
    "two loggers": {
        "logger": [part("TensorBoardLogger", save_dir="logs"), CSV],
        "callbacks": [
            part("ModelCheckpoint", dirpath="mine", every_n_train_steps=1, save_top_k=-1),
            part("GradientAccumulationScheduler", scheduling={0: 1, 1: 2}),
            part("Timer", duration="00:01:00:00"),
            part("DeviceStatsMonitor", cpu_stats=False),
        ],
    },
    "no logger": {
        "logger": False,
        "callbacks": [
            part("ModelSummary"),
            part("EarlyStopping", monitor="val/loss", patience=9),
            part("ModelCheckpoint", save_last=True, every_n_train_steps=50),
        ],
    },
    "ended early": {
        "min_steps": 4,
        "callbacks": [
            part("EarlyStopping", monitor="val/loss", stopping_threshold=1e9),
            part("LearningRateMonitor"),
            part("ModelCheckpoint", monitor="val/loss"),
        ],
    },
}


@pytest.fixture(scope="module")
def fit(tiny_checkpoint, student_folder, tiny_shards):
    """Return a function that runs `fcot fit` in a process of its own, and returns its exit code."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    env.pop("PL_GLOBAL_SEED", None)
    script = str(Path(__file__).with_name("fit_forks.py"))
    server = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )

    def run(folder, stage, group, *more, number=0, batch=-1, **options):
        folder.mkdir(exist_ok=True)
        (folder / "watch.py").write_text(WATCH)
        start = {"SFT": student_folder, "Realign": tiny_checkpoint}[stage]
        settings = settings_of(start, tiny_shards, stage, {**GROUPS[group], **options}, number, batch)
        (folder / "run.yaml").write_text(yaml.safe_dump(settings))
        asked = {"words": ["fit", "--config", "run.yaml", *more], "folder": str(folder), "said": str(folder / "said")}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    yield run
    server.stdin.close()
    server.wait(60)


def settings_of(start, shards, stage, group, number, batch):
    ours = [
        part("Snapshots", count=3),
        part("ShapleyMerge", value="tokens", samples=4, random_draws=2, overwrite=True),
        part("SaveStudent"),
        part("watch.Watch", number=int(number), batch=batch),
    ]
    trainer = {
        "max_steps": 6,
        "limit_train_batches": 3,
        "check_val_every_n_epoch": None,
        "val_check_interval": 2,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "checkpoint_every_n_steps": 2,
        "log_every_n_steps": 1,
        "gradient_clip_val": 1.0,
        "accelerator": "cpu",
        "default_root_dir": "run",
        **group,
    }
    trainer["callbacks"] = [*trainer["callbacks"], *ours]
    optimizer = part("torch.optim.AdamW", lr=0.01)
    return {
        "trainer": trainer,
        "model": part(stage, checkpoint=str(start), optimizer=optimizer, max_new_tokens=2),
        "data": {"root": str(shards), "batch_size": 4, "eval_batch_size": 4, "num_workers": 0},
    }


def said(folder):
    return (folder / "said").read_text()


def made(folder):
    """Paths of what lies in a run folder and in a ModelCheckpoint's, but for TensorBoard's."""
    found = {path.relative_to(folder) for place in ("run", "mine") for path in (folder / place).rglob("*")}
    return sorted(str(path) for path in found if not path.name.startswith(("events.", "hparams.yaml")))


def batches(folder):
    """What a run saw, by batch; one that was done twice must have been the same both times."""
    seen = {}
    for line in (folder / "batches.jsonl").read_text().splitlines():
        done, *rest = json.loads(line)
        assert seen.setdefault(done, rest) == rest
    return seen


def models(folder):
    return {path.parent.name: load_file(path) for path in (folder / "run").glob("*/model.safetensors")}


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["Realign", "SFT"])
@pytest.mark.parametrize("group", GROUPS)
def test_a_run_with_parts_of_lightnings_has_the_same_future_and_one_folder(fit, tmp_path, group, stage):
    straight = tmp_path / "straight"
    assert fit(straight, stage, group) == 0, said(straight)
    expected = made(straight)
    assert {"run/config.yaml", "run/merged/merge.json", "run/student/config.json"} <= set(expected)
    assert not [path for path in expected if "version_" in path or ".tmp-" in path]
    for number, code in ((signal.SIGTERM, EXIT_PREEMPTED), (signal.SIGKILL, -signal.SIGKILL)):
        folder = tmp_path / number.name
        for batch in (1, 4):
            ended = fit(folder, stage, group, "--ckpt_path", "last", number=number, batch=batch)
            assert ended == code, said(folder)
        assert fit(folder, stage, group, "--ckpt_path", "last") == 0, said(folder)
        assert said(folder).count("this run begins anew") == (1 if number == signal.SIGTERM else 2)
        assert batches(folder) == batches(straight)
        assert made(folder) == expected
        for name, weights in models(straight).items():
            assert same(models(folder)[name], weights), name
    assert "This run was over" not in said(folder)
    assert fit(folder, stage, group, "--ckpt_path", "last") == 0, said(folder)
    assert f"This run was over at step {4 if group == 'ended early' else 6}" in said(folder)
    assert made(folder) == expected
