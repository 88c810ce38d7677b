"""Whatever ends a run, its last step is saved before the end changes weights, and a resumed run knows it is over."""

import shutil

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer

from fcot.runtime.checkpoints.folder import newest_valid, read_checkpoint
from fcot.training.sft import SFT

OPTIONS = {
    "max_steps": 8,
    "limit_val_batches": 1,
    "val_check_interval": 3,
    "num_sanity_val_steps": 0,
    "checkpoint_every_n_steps": 2,
}


class Spoils(Callback):
    """Changes weights when training ends, as a merge does, and counts how often it is told so."""

    ends = 0

    def on_train_end(self, trainer, module):
        self.ends += 1
        module.pair.student.lm_head.weight.data.zero_()


class Stops(Callback):
    """Ends a run after a step, or after a pass."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop |= trainer.global_step == self.step


def head(path):
    return read_checkpoint(path)["state_dict"]["pair.student.lm_head.weight"]


def never(**more):
    return EarlyStopping("val/loss", stopping_threshold=-1.0, patience=9, **more)


ENDS = {
    "early stopping": (3, lambda: EarlyStopping("val/loss", stopping_threshold=1e9)),
    "timer": (1, lambda: Timer({"milliseconds": 1})),
    "callback": (5, lambda: Stops(5)),
    "last step": (8, never),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_ends_saves_its_last_step_and_is_over_when_resumed(
    tmp_path, student_folder, pages, trainer, capsys, end
):
    step, stopper = ENDS[end]
    spoils = Spoils()
    trainer(tmp_path, spoils, stopper(), **OPTIONS).fit(SFT(student_folder), pages)
    newest = newest_valid(tmp_path / "checkpoints")
    assert newest.name == f"step-{step:06d}.ckpt"
    assert head(newest).abs().sum() > 0
    if end == "callback":  # which nobody knows; it will ask again
        return
    capsys.readouterr()
    run = trainer(tmp_path, spoils, stopper(), **OPTIONS)
    run.fit(SFT(student_folder), pages, ckpt_path="last")
    assert (run.global_step, spoils.ends) == (step, 2)
    said = capsys.readouterr().out
    assert f"This run was over at step {step}" in said
    assert ("a callback ended it" in said) == (step < 8)
    assert head(newest_valid(tmp_path / "checkpoints")).abs().sum() > 0


def test_a_run_that_was_ended_early_goes_on_without_what_ended_it(tmp_path, student_folder, pages, trainer):
    trainer(tmp_path, ENDS["early stopping"][1](), **OPTIONS).fit(SFT(student_folder), pages)
    run = trainer(tmp_path, **OPTIONS)
    run.fit(SFT(student_folder), pages, ckpt_path="last")
    assert run.global_step == 8


def test_a_model_checkpoint_that_saves_at_the_end_saves_what_was_trained(tmp_path, student_folder, pages, trainer):
    """Its moment does not come in so short a run, and at the end it saves all the same."""
    options = {**OPTIONS, "max_steps": 2, "limit_val_batches": 0, "check_val_every_n_epoch": None}

    def run(path=None):
        theirs = ModelCheckpoint(save_last=True, every_n_train_steps=100)
        trainer(tmp_path, Spoils(), theirs, **options).fit(SFT(student_folder), pages, ckpt_path=path)
        assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["last.ckpt", "step-000002.ckpt"]
        assert head(tmp_path / "checkpoints" / "last.ckpt").abs().sum() > 0

    run()
    run("last")
    shutil.rmtree(tmp_path / "checkpoints" / "last.ckpt")  # as if killed before that
    run("last")
