"""No verb outlives an error: data workers leave with it, whatever they are doing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcot.cli.main import main

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs" / "sft_tiny.yaml")

# Every worker gets stuck in its second batch, and the first one is an error: of the model, or in a merge of the
# reading, as it reads all batches before any is scored.
PLANTED = """
import sys, time
from pathlib import Path
import fcot.training.base_task, fcot.training.sft, shards.feed.ledger, shards.feed.reader
from fcot.cli.main import main
from fcot.errors import UserError

prepare, calls = shards.feed.reader.prepare, []

def slow(*args, **options):
    calls.append(1)
    if len(calls) > 2:
        time.sleep(100)
    return prepare(*args, **options)

def fail(*args, **options):
    Path("failed").touch()
    raise {error}("planted")

shards.feed.reader.prepare = slow
fcot.training.sft.SFT.losses = fail
fcot.training.base_task.BaseTask.drawn = fail
if sys.argv[1] == "merge":
    shards.feed.ledger.Ledger.counts = fail
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, student_folder, tiny_shards):
    """A short run with snapshots, whose data are read by workers from now on."""
    folder = tmp_path_factory.mktemp("stuck") / "run"
    words = {
        "config": CONFIG,
        "model.checkpoint": student_folder,
        "model.max_length": 512,
        "model.max_new_tokens": 2,
        "data.root": tiny_shards,
        "data.recipe": "null",
        "data.batch_size": 2,
        "data.eval_batch_size": 2,
        "data.num_workers": 0,
        "trainer.accelerator": "cpu",
        "trainer.max_steps": 2,
        "trainer.limit_val_batches": 0,
        "trainer.default_root_dir": folder,
    }
    merge = ["--trainer.callbacks", "[Snapshots]"]
    main(["fit", *(word for name, value in words.items() for word in (f"--{name}", str(value))), *merge])
    config = folder / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("num_workers: 0", "num_workers: 2"), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("fit", "RuntimeError"),
        pytest.param("test", "UserError", marks=pytest.mark.slow),
        pytest.param("merge", "RuntimeError", marks=pytest.mark.slow),
    ],
)
def test_an_error_ends_a_verb_at_once_while_its_workers_are_stuck(verb, error, run, tmp_path):
    words = ["--config", str(run / "config.yaml"), "--trainer.default_root_dir", "again"]
    words = [verb, str(run), "--output", "merged"] if verb == "merge" else [verb, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said").open("w") as said:  # a file: workers that are left would hold a pipe open
        started = subprocess.Popen(
            [sys.executable, "-c", PLANTED.format(error=error), *words],
            cwd=tmp_path,
            env=env,
            stdout=said,
            stderr=said,
        )
        try:
            code = started.wait(120)
        except subprocess.TimeoutExpired:
            started.kill()
            raise
    late = time.time() - (tmp_path / "failed").stat().st_mtime
    text = (tmp_path / "said").read_text(encoding="utf-8")
    assert code == (2 if error == "UserError" else 1), text
    assert "planted" in text
    # two seconds on a machine that does nothing else; workers that are waited for would take 60
    assert late < 30, text


def test_a_loader_whose_workers_were_ended_starts_new_ones(tiny_checkpoint, tiny_shards):
    from fcot.runtime.checkpoints.workers import end_workers
    from fcot.training.sft import SFT
    from shards.feed.datamodule import Shards

    data = Shards(tiny_shards, eval_batch_size=2, num_workers=2)
    loader = data.loader("dev", layout=SFT(tiny_checkpoint, max_length=512).layout)
    first = [batch.keys for batch in loader]
    reading = iter(loader)
    next(reading)
    workers = loader._iterator._workers
    end_workers()
    for worker in workers:
        worker.join(5)
        assert worker.exitcode == 0
    del reading
    assert [batch.keys for batch in loader] == first
