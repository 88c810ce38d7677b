import csv
import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from callbacks import TaskLosses
from fcot.errors import UserError
from fcot.models.student_teacher import answer_labels
from fcot.runtime.trainer import Trainer
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards
from shards.format.writer import write_set
from shards.render.recipes import Draw


class Record(Callback):
    """Keeps the batches of a run."""

    def __init__(self):
        self.batches = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append(batch)


def still(parameters):
    return torch.optim.SGD(parameters, lr=0.0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")

    def draw(index):
        return replace(Draw("letters", "train", 0, 16)(index), task="plain" if index < 10 else "hard")

    write_set(root / "train", draw, 16)
    return root


def fit(folder, checkpoint, shards, *callbacks, ckpt_path=None, **options):
    options = {"max_steps": 4, "logger": False, "enable_checkpointing": False, **options}
    module = SFT(checkpoint, optimizer=still)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        limit_val_batches=0,
        **options,
    )
    trainer.fit(module, Shards(shards, batch_size=4, num_workers=0), ckpt_path=ckpt_path)
    return trainer, module


def expected(module, batches):
    """Mean losses of each task over answer tokens and over samples, computed one sample at a time."""
    sums, means, tokens, samples = Counter(), Counter(), Counter(), Counter()
    for batch in batches:
        for place, task in enumerate(batch.tasks):
            one = batch.take([place])
            count = len(answer_labels(one.sequences["student"]))
            mean = module.losses(one)["loss"].item()
            sums[task] += mean * count
            means[task] += mean
            tokens[task] += count
            samples[task] += 1
    return {
        task: {
            "loss": pytest.approx(sums[task] / tokens[task]),
            "sample_loss": pytest.approx(means[task] / count),
            "answer_tokens": tokens[task],
            "samples": count,
        }
        for task, count in samples.items()
    }


def test_losses_of_tasks_are_those_of_the_last_half_of_the_steps(tmp_path, tiny_checkpoint, shards):
    record = Record()
    logger = CSVLogger(tmp_path, name="", version="run")
    losses = TaskLosses(every_n_steps=1, generation_tasks=["hard"])
    _, module = fit(tmp_path, tiny_checkpoint, shards, losses, record, logger=logger)
    report = json.loads((tmp_path / "task_losses.json").read_text())
    assert (report["split"], report["steps"]) == ("train", [3, 4])
    assert report["tasks"] == expected(module, record.batches[2:])
    assert report["weights"].keys() == report["tasks"].keys()
    assert report["read"] == Counter(task for batch in record.batches for task in batch.tasks)
    assert report["answer_tokens"] == sum(len(answer_labels(b.sequences["student"])) for b in record.batches)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["step"] == "2" and row.get("train_loss/plain")]
    assert float(rows[0]["train_loss/plain"]) == expected(module, record.batches[1:2])["plain"]["loss"]


def test_every_batch_of_a_step_counts_when_gradients_accumulate(tmp_path, tiny_checkpoint, shards):
    record = Record()
    losses = TaskLosses(every_n_steps=1)
    _, module = fit(tmp_path, tiny_checkpoint, shards, losses, record, max_steps=2, accumulate_grad_batches=2)
    assert losses.report()["steps"] == [2, 2]
    assert losses.report()["tasks"] == expected(module, record.batches[2:4])


def test_a_resumed_run_goes_on_counting_in_the_middle_of_a_window(tmp_path, tiny_checkpoint, shards):
    first, second = Record(), Record()
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3)
    fit(tmp_path, tiny_checkpoint, shards, TaskLosses(every_n_steps=4), first, keep, enable_checkpointing=True)
    losses = TaskLosses(every_n_steps=4)
    _, module = fit(tmp_path, tiny_checkpoint, shards, losses, second, ckpt_path=tmp_path / "step=3.ckpt")
    assert len(second.batches) == 1
    assert losses.report()["steps"] == [1, 4]
    assert losses.report()["tasks"] == expected(module, first.batches[:3] + second.batches)


def test_a_checkpoint_without_means_of_samples_is_gone_on_from(tmp_path, tiny_checkpoint, shards):
    losses = TaskLosses()
    windows = [{"step": 2, "tasks": {"plain": [6.0, 4.0, 2.0]}}]
    losses.load_state_dict({"window": {"plain": [3.0, 2.0, 1.0]}, "windows": windows})
    assert losses.report()["tasks"]["plain"]["sample_loss"] == 1.5
    assert losses.state_dict()["window"] == {"plain": [3.0, 2.0, 1.0, 1.5]}


def test_weights_follow_means_of_samples_and_the_sizes_of_tasks():
    losses = TaskLosses()
    # a long read-out has nearly all tokens of its task, at another loss than most of its samples
    counts = {"read": [10.0, 100.0, 2.0, 2.0], "ask": [2.0, 4.0, 2.0, 1.0], "plain": [6.0, 4.0, 2.0, 3.0]}
    losses.load_state_dict({"window": {}, "windows": [{"step": 2, "tasks": counts}]})
    report = losses.report({"read": 100, "ask": 100, "plain": 100})
    assert report["weights"] == pytest.approx({"read": 1.0, "ask": 0.5, "plain": 1.5})
    assert losses.report({"read": 800, "ask": 100, "plain": 100})["weights"]["read"] == pytest.approx(1.0)


def test_a_trial_run_writes_nothing(tmp_path, tiny_checkpoint, tiny_shards):
    fit(tmp_path, tiny_checkpoint, tiny_shards, TaskLosses(), fast_dev_run=True)
    assert not list(tmp_path.glob("**/task_losses.json"))


def test_a_module_without_losses_of_rows_is_refused(tmp_path, tiny_checkpoint, shards):
    class Plain(SFT):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx)["loss"]

    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=[TaskLosses()],
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    with pytest.raises(UserError, match=r"Plain\.training_step returns no 'ce_rows'"):
        trainer.fit(Plain(tiny_checkpoint), Shards(shards, batch_size=4, num_workers=0))
