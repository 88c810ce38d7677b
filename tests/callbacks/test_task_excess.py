"""Rule excess: dev pages of student and teacher measured around a run, and what is made of them."""

import json
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks import TaskLosses
from callbacks.dev_losses import rises
from callbacks.task_excess import TaskExcess
from fcot.errors import UserError
from fcot.training.conclusion_losses import conclusion_losses
from fcot.training.realign import Realign
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards
from shards.feed.task_weights import excess_weights
from shards.format.writer import write_set
from shards.render.recipes import Draw


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Sixteen training pages, forty dev pages; "hard" are those of four lines."""
    root = tmp_path_factory.mktemp("tasks")
    for split, count in (("train", 16), ("dev", 40)):

        def draw(index, split=split, count=count):
            return replace(Draw("letters", split, 0, 40)(index), task="plain" if index < 0.6 * count else "hard")

        write_set(root / split, draw, count)
    return root


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.3)


def fit(trainer, folder, module, shards, losses, *callbacks, ckpt_path=None, weights=None, **options):
    options = {"max_steps": 4, **options}
    made = trainer(folder, losses, *callbacks, **options)
    data = Shards(shards, batch_size=4, eval_batch_size=8, num_workers=0, weights=weights)
    made.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return json.loads((folder / "task_losses.json").read_text())


def measured(module, shards, branch="student"):
    """Losses of dev pages one by one, by task."""
    module.configure_model()
    module.eval()
    batches = Shards(shards, eval_batch_size=1, num_workers=0).loader("dev", layout=module.layout)
    found = conclusion_losses(module, batches, branch)
    return {task: [losses[key] for key in sorted(losses)] for task, losses in found.items()}


def mean(values):
    return pytest.approx(sum(values) / len(values), rel=1e-4)


def test_student_and_teacher_are_measured_before_and_after_a_run(
    tmp_path, trainer, student_folder, tiny_checkpoint, shards, capsys
):
    before, teacher = measured(SFT(student_folder), shards), measured(SFT(tiny_checkpoint), shards)
    module = SFT(student_folder, optimizer=sgd)
    losses = TaskLosses(every_n_steps=1, rule="excess", teacher=tiny_checkpoint)
    report = fit(trainer, tmp_path, module, shards, losses)
    after = measured(module, shards)
    for task in ("plain", "hard"):
        row = report["dev"][task]
        assert row["loss_before"] == mean(before[task]) != mean(after[task])
        assert (row["loss"], row["teacher_loss"]) == (mean(after[task]), mean(teacher[task]))
        assert row["samples"] == len(after[task])
    assert sum(report["dev"][task]["reads"] * size for task, size in report["sizes"].items()) == 4 * 4
    expected = excess_weights(after, teacher, report["sizes"])
    assert report["weights"] == pytest.approx({task: row.weight for task, row in expected.items()}, rel=1e-3)
    assert report["rule"] == "excess"
    assert set(report["weights_by_loss"]) == set(report["tasks"])
    printed = capsys.readouterr().out
    assert (
        f"| hard | 16 | {report['dev']['hard']['loss_before']:.3f} | {report['dev']['hard']['loss']:.3f} |" in printed
    )
    assert list(module.trainer.datamodule.ledgers) == ["train"]  # what was measured is no pass of the run


def test_realignment_measures_its_own_teacher(tmp_path, trainer, tiny_checkpoint, shards):
    report = fit(trainer, tmp_path, Realign(tiny_checkpoint), shards, TaskLosses(rule="excess"))
    teacher = measured(SFT(tiny_checkpoint), shards)
    assert {task: row["teacher_loss"] for task, row in report["dev"].items()} == {
        task: mean(each) for task, each in teacher.items()
    }


def test_a_run_takes_the_weights_of_another_and_says_how_often_it_read_each_task(
    tmp_path, trainer, student_folder, shards, tiny_checkpoint
):
    file = tmp_path / "first" / "task_losses.json"
    fit(trainer, tmp_path / "first", SFT(student_folder), shards, TaskLosses(rule="loss"))
    written = json.loads(file.read_text())
    written["weights"] = {"plain": 0.4, "hard": 2.0}
    file.write_text(json.dumps(written))
    losses = TaskLosses(rule="excess", teacher=tiny_checkpoint, dev_samples=8)
    report = fit(trainer, tmp_path / "next", SFT(student_folder), shards, losses, weights=file)
    sizes = report["sizes"]
    expected = {"plain": 16 * 0.4 / (0.4 * sizes["plain"] + 2.0 * sizes["hard"])}
    assert report["dev"]["plain"]["reads_by_weights"] == pytest.approx(expected["plain"])
    assert report["dev"]["plain"]["samples"] == 8


def test_a_resumed_run_compares_with_its_beginning(tmp_path, trainer, student_folder, tiny_checkpoint, shards):
    def part(folder, steps, **options):
        keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3)
        losses = TaskLosses(rule="excess", teacher=tiny_checkpoint)
        module = SFT(student_folder, optimizer=sgd)
        return fit(trainer, folder, module, shards, losses, keep, max_steps=4, limit_train_batches=steps, **options)

    whole = part(tmp_path / "whole", 4, enable_checkpointing=True)
    rest = part(tmp_path / "rest", 4, ckpt_path=tmp_path / "step=3.ckpt", enable_checkpointing=True)
    for task, row in whole["dev"].items():
        assert rest["dev"][task]["loss_before"] == row["loss_before"]
        assert rest["dev"][task]["loss"] == pytest.approx(row["loss"], rel=1e-4)


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp2"])
def test_processes_measure_together_what_one_measures(tmp_path, forks, tiny_checkpoint, shards, strategy):
    def train(name, **options):
        run = {"max_steps": 2, "val_check_interval": 1, "limit_val_batches": 1, "tasks": measured_by_excess, **options}
        codes = forks.train(tmp_path / name, shards=str(shards), module={"drop_path": 0.0}, **run)
        assert set(codes) == {0}, (tmp_path / name / "said").read_text()
        return json.loads((tmp_path / name / "task_losses.json").read_text())["dev"]

    measured_by_excess = {"rule": "excess", "teacher": str(tiny_checkpoint), "every_n_steps": 1}
    alone = train("alone")
    shared = train("shared", processes=2, strategy=strategy, data={"batch_size": 2})
    for task, row in alone.items():
        assert shared[task] == pytest.approx(row, rel=1e-3)


def test_a_task_that_is_read_more_often_and_gets_worse_is_named():
    keys = [f"{n}" for n in range(50)]
    low = {task: {key: 0.5 + 0.1 * (int(key) % 3) for key in keys} for task in ("more", "less", "noisy")}
    now = {task: {key: value + 0.2 for key, value in low[task].items()} for task in ("more", "less")}
    now["noisy"] = {key: value + (3.0 if int(key) % 2 else -2.8) for key, value in low["noisy"].items()}
    risen = rises(low, now, {"more": 1.4, "less": 0.6, "noisy": 1.4})
    assert risen == {"more": pytest.approx(0.2)}
    figures = {name: 0.1 for name in ("loss_before", "loss", "teacher_loss", "excess", "standard_error", "reads")}
    dev = {task: {**figures, "samples": 50, "weight": 1.0, "reads_by_weights": 1.4, "rise": risen.get(task, 0.0)}
           for task in now}  # fmt: skip
    assert [line for line in TaskExcess.table({"dev": dev}).splitlines() if line.startswith("Beware")] == [
        "Beware: more is read 1.40 times an epoch, and its dev loss has risen by 0.200 from its lowest. "
        "Give it a lower weight, or train for fewer steps."
    ]


def test_the_lowest_loss_may_be_in_the_middle_of_a_run(tmp_path, trainer, student_folder, tiny_checkpoint, shards):
    class Worse(SFT):
        """Learns for two steps and forgets in the next."""

        def on_train_batch_end(self, outputs, batch, batch_idx):
            if batch_idx == 2:
                with torch.no_grad():
                    self.pair.student.lm_head.weight.mul_(-1)

    losses = TaskLosses(rule="excess", teacher=tiny_checkpoint)
    weights = {"plain": 2.0, "hard": 0.5}
    module = Worse(student_folder, optimizer=sgd)
    validate = {"limit_val_batches": 1, "val_check_interval": 2, "num_sanity_val_steps": 1}
    report = fit(trainer, tmp_path, module, shards, losses, weights=weights, max_steps=3, **validate)
    assert report["dev"]["plain"]["rise"] > 0
    assert report["dev"]["hard"]["rise"] == 0  # read less often than without weights
    low = sum(losses.excess.lowest["plain"].values()) / len(losses.excess.lowest["plain"])
    assert low < report["dev"]["plain"]["loss_before"]


def test_what_cannot_be_measured_is_refused_before_training(tmp_path, trainer, student_folder, shards):
    with pytest.raises(UserError, match=r"rule is 'exces'\. Did you mean 'excess'"):
        TaskLosses(rule="exces")
    with pytest.raises(UserError, match="dev_tokens is 'all'"):
        TaskLosses(rule="excess", dev_tokens="all")
    with pytest.raises(UserError, match="compares with a teacher, and SFT has none"):
        fit(trainer, tmp_path, SFT(student_folder), shards, TaskLosses(rule="excess"))
    with pytest.raises(UserError, match=r"dev pages of shards\.Shards with fcot's tasks, not of NoneType"):
        losses = TaskLosses(rule="excess", teacher=student_folder)
        trainer(tmp_path, losses, max_steps=1).fit(SFT(student_folder), [])
    with pytest.raises(UserError, match="nowhere"):
        gone = TaskLosses(rule="excess", teacher=tmp_path / "nowhere")
        fit(trainer, tmp_path, SFT(student_folder), shards, gone)
