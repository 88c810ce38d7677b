"""Trains in forks of one process, so that importing torch is paid once; started by the fixture `forks`.

Reads one line of JSON for each group of processes from stdin, and writes one with their exit codes. A process is the
keyword arguments of `train`, with "env" for its environment; what it prints goes to the file `said` in its folder.
A group may be killed: {"kill": {"when": …, "delay": …}}.
"""

import json
import os
import pickle
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback

from callbacks import Predictions, SaveStudent, ShapleyMerge, Snapshots, TaskLosses
from fcot.models.sharded_tensors import whole
from fcot.runtime.checkpoints.exact_resume import ExactResume
from fcot.runtime.trainer import Trainer
from fcot.training.realign import Realign
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards


class Recorder(Callback):
    """Writes a line for each batch, and marks what a kill waits for."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        position = next(c for c in trainer.callbacks if isinstance(c, ExactResume))
        line = {
            "batch": position.total,
            "epoch": position.epoch,
            "step": trainer.global_step,
            "keys": batch.keys,
            "loss": outputs["loss"].item(),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        with (self.folder / f"record-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def on_validation_start(self, trainer, module):
        with (self.folder / "validations").open("a") as file:
            file.write(".")

    def on_validation_end(self, trainer, module):
        position = next(c for c in trainer.callbacks if isinstance(c, ExactResume))
        loss = trainer.callback_metrics["val/loss"].item()
        with (self.folder / f"validated-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps([position.total, trainer.global_step, loss]) + "\n")

    def on_train_end(self, trainer, module):
        weights = {name: whole(p.detach()).clone() for name, p in module.pair.trainable()}
        torch.save(weights, self.folder / f"final-{trainer.global_rank}.pt")


class Signals(Callback):
    """Sends this process a signal after a batch, or in the first batch of the validation after it, or lets it pause;
    more signals while a checkpoint is written."""

    def __init__(self, folder, number, batch, rank=0, again=0, group=False, pause=0, validating=False):
        self.folder, self.number, self.batch, self.rank, self.again = folder, number, batch, rank, again
        self.pause, self.validating = pause, validating
        self.send = os.killpg if group else os.kill

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if not self.validating:
            self.due(trainer)

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
        if self.validating and batch_idx == 0:
            self.due(trainer)

    def due(self, trainer):
        position = next(c for c in trainer.callbacks if isinstance(c, ExactResume))
        if (position.total, trainer.global_rank) == (self.batch, self.rank):
            self.send(os.getpid(), self.number)
            time.sleep(self.pause)

    def on_save_checkpoint(self, trainer, module, checkpoint):
        with (self.folder / f"saves-{trainer.global_rank}").open("a") as file:
            file.write(".")
        for _ in range(self.again):
            os.kill(os.getpid(), self.number)


class SFTThatAsks(SFT):
    """Asks Lightning for the number of steps, which makes it build the loader before the counters are restored."""

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


class Batches:
    """A loader of batches that are there."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def build(model, *, kind="SFT", optimizer="AdamW", lr=0.01, **settings):
    """Make a module; drop path gives a post-training something random."""
    made = {"SFT": SFT, "SFTThatAsks": SFTThatAsks, "Realign": Realign}[kind]
    settings = settings if kind == "Realign" else {"drop_path": 0.2, **settings}
    return made(Path(model), optimizer=partial(getattr(torch.optim, optimizer), lr=lr), **settings)


def train(
    folder,
    model,
    shards,
    *,
    signals=None,
    merge=None,
    show=0,
    tasks=None,
    ckpt_path=None,
    module=None,
    data=None,
    batches=None,
    **options,
):
    """Train on shards, or on pickled batches of this rank."""
    folder = Path(folder)
    torch.manual_seed(0)
    callbacks = [Recorder(folder)]
    if signals:
        callbacks.append(Signals(folder, **signals))
    if merge is not None:
        merger = ShapleyMerge(value="tokens", samples=4, random_draws=2, **merge)
        callbacks += [Snapshots(count=2), merger, SaveStudent()]
    if show:
        callbacks.append(Predictions(pages=show))
    if tasks:
        callbacks.append(TaskLosses(**{**tasks, "teacher": Path(tasks["teacher"])}))
    trainer = Trainer(
        default_root_dir=folder,
        callbacks=callbacks,
        accelerator="cpu",
        enable_progress_bar=False,
        logger=False,
        deterministic=True,
        **{"num_sanity_val_steps": 0, **options},
    )
    made = build(model, **(module or {}))
    if batches:
        mine = pickle.loads(Path(batches).read_bytes())[int(os.environ.get("LOCAL_RANK", "0"))]
        trainer.fit(made, train_dataloaders=Batches(mine), ckpt_path=ckpt_path)
    else:
        pages = Shards(Path(shards), **{"batch_size": 4, "eval_batch_size": 8, "num_workers": 0, **(data or {})})
        trainer.fit(made, datamodule=pages, ckpt_path=ckpt_path)


def start(env, arguments):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        os.environ.update(env)
        os.dup2(os.open(Path(arguments["folder"]) / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        train(**arguments)
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    except BaseException as error:  # a fork must not run on into its parent's code
        for stream in (sys.stdout, sys.stderr):
            print(f"{type(error).__name__}: {error}", file=stream)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def has_come(folder, when, before):
    """Whether what a kill waits for is there: batches, a validation, a checkpoint that is being written."""
    if when == "saving":
        return any((folder / "checkpoints").glob("*.tmp-*"))
    if when == "validating":
        marks = folder / "validations"
        return (marks.stat().st_size if marks.exists() else 0) > before["validations"]
    record = folder / "record-0.jsonl"
    return (record.read_bytes().count(b"\n") if record.exists() else 0) >= before["batches"] + when


def wait_and_kill(children, folder, kill):
    marks, record = folder / "validations", folder / "record-0.jsonl"
    before = {
        "validations": marks.stat().st_size if marks.exists() else 0,
        "batches": record.read_bytes().count(b"\n") if record.exists() else 0,
    }
    while (
        not has_come(folder, kill["when"], before)
        and os.waitid(os.P_PID, children[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.0005)
    time.sleep(kill["delay"])
    for child in children:
        os.killpg(child, signal.SIGKILL)


def run(group):
    processes, kill = group["processes"], group.get("kill")
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(processes))}
    children = []
    for rank, process in enumerate(processes):
        env = {**process.pop("env", {}), **({**shared, "LOCAL_RANK": str(rank)} if len(processes) > 1 else {})}
        children.append(start(env, process))
    if kill:
        wait_and_kill(children, Path(processes[0]["folder"]), kill)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    if len(sys.argv) > 1:  # one training, in this very process
        train(**json.loads(sys.argv[1]))
        sys.exit()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the forks print is not an answer
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=out, flush=True)
