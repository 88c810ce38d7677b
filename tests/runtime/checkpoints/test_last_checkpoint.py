"""A run's own checkpoints beside those of a ModelCheckpoint that writes to the same folder."""

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from fcot.runtime.checkpoints.folder import newest_valid, read_checkpoint, write_checkpoint
from fcot.runtime.checkpoints.last_checkpoint import newest_of_run
from fcot.runtime.trainer import Trainer
from fcot.training.sft import SFT


class Fails(BoringModel):
    """Remembers where it started, and fails after a step."""

    def __init__(self, after=-1):
        super().__init__()
        self.after = after

    def on_train_start(self):
        self.started_at = self.trainer.global_step

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.trainer.global_step == self.after:
            raise RuntimeError("killed")


class Saboteur(Callback):
    """Fails in the fourth step."""

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 3:
            raise RuntimeError("killed")


def trainer(folder, *callbacks, **options):
    quiet = {"accelerator": "cpu", "limit_val_batches": 0, "enable_progress_bar": False, "logger": False}
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **{"max_steps": 5, **quiet, **options})


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_checkpoints_of_the_users_own_are_kept(tmp_path):
    theirs = ModelCheckpoint(every_n_train_steps=1, save_top_k=-1)
    trainer(tmp_path, theirs, checkpoint_every_n_steps=1).fit(BoringModel())
    own = ["step-000004.ckpt", "step-000005.ckpt"]
    assert checkpoints(tmp_path) == [f"epoch=0-step={step}.ckpt" for step in range(1, 6)] + own


@pytest.mark.parametrize(("weights_only", "start"), [(True, 2), (False, 3)])
def test_a_newer_checkpoint_of_the_users_is_resumed_from_if_it_can_be(tmp_path, capsys, weights_only, start):
    class Theirs(ModelCheckpoint):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "checkpoints" / "best.ckpt", weights_only)

    options = {"checkpoint_every_n_steps": 2}
    with pytest.raises(RuntimeError, match="killed"):
        trainer(tmp_path, Theirs(), **options).fit(Fails(after=3))
    assert checkpoints(tmp_path) == ["best.ckpt", "step-000002.ckpt"]
    model = Fails()
    trainer(tmp_path, **options).fit(model, ckpt_path="last")
    assert model.started_at == start
    assert ("best.ckpt does not say where in the data" in capsys.readouterr().out) == weights_only


def test_the_last_step_is_saved_where_a_number_of_epochs_ends_the_run_too(tmp_path):
    options = {"max_steps": -1, "max_epochs": 2, "limit_train_batches": 3, "checkpoint_every_n_steps": 4}
    trainer(tmp_path, **options).fit(BoringModel())
    assert checkpoints(tmp_path) == ["step-000004.ckpt", "step-000006.ckpt"]
    model = Fails(after=7)
    trainer(tmp_path, **options).fit(model, ckpt_path="last")
    assert model.started_at == 6


def test_weights_alone_are_no_checkpoint_to_resume_from(tmp_path):
    trainer(tmp_path, ModelCheckpoint(every_n_train_steps=5, save_weights_only=True), checkpoint_every_n_steps=0).fit(
        BoringModel()
    )
    assert checkpoints(tmp_path) == ["epoch=0-step=5.ckpt"]
    assert newest_of_run(trainer(tmp_path)) is None


def test_a_checkpoint_of_the_users_that_was_making_way_is_put_back_not_cleared_away(tmp_path):
    aside = tmp_path / "checkpoints" / "best.ckpt.previous"
    write_checkpoint({"step": 1}, aside)
    trainer(tmp_path, max_steps=1).fit(BoringModel())
    assert checkpoints(tmp_path) == ["best.ckpt", "step-000001.ckpt"]
    assert newest_valid(tmp_path / "checkpoints").name == "step-000001.ckpt"


def test_last_is_the_newest_in_whatever_folder(tmp_path):
    theirs = ModelCheckpoint(dirpath=tmp_path / "theirs", every_n_train_steps=1, save_top_k=-1)
    options = {"checkpoint_every_n_steps": 2}
    with pytest.raises(RuntimeError, match="killed"):
        trainer(tmp_path, theirs, Saboteur(), **options).fit(BoringModel())
    for callbacks, start in (([ModelCheckpoint(dirpath=tmp_path / "theirs")], 3), ([], 2)):
        found = newest_of_run(trainer(tmp_path, *callbacks, **options))
        assert read_checkpoint(found)["global_step"] == start


@pytest.mark.parametrize("logger", [False, True])
def test_a_model_checkpoint_without_a_folder_writes_to_the_runs_own(tmp_path, logger):
    loggers = [CSVLogger(tmp_path / "logs")] if logger else False
    trainer(tmp_path / "run", ModelCheckpoint(), max_steps=1, logger=loggers).fit(BoringModel())
    assert checkpoints(tmp_path / "run") == ["epoch=0-step=1.ckpt", "step-000001.ckpt"]
    assert not list((tmp_path / "logs").rglob("*.ckpt"))


def test_a_run_that_replaces_another_says_so(tmp_path, student_folder, pages, trainer, capsys):
    for told, path in ((False, None), (True, None), (False, "last")):
        trainer(tmp_path, max_steps=2, checkpoint_every_n_steps=1).fit(SFT(student_folder), pages, ckpt_path=path)
        assert ("has step-000002.ckpt of an earlier run" in capsys.readouterr().out) == told
