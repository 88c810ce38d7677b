"""The Trainer's run folder, its last checkpoint and the devices Lightning does not know."""

import re
from pathlib import Path

import pytest
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

from fcot.errors import UserError
from fcot.runtime.checkpoints.folder import newest_valid, read_checkpoint
from fcot.runtime.checkpoints.last_checkpoint import LastCheckpoint, newest_of_run
from fcot.runtime.npu import NPUAccelerator
from fcot.runtime.trainer import Trainer, listed

QUIET = {"accelerator": "cpu", "limit_val_batches": 0, "enable_progress_bar": False}
ROOT = Path(__file__).parents[2]


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_a_run_folder_holds_logs_and_the_last_two_checkpoints(tmp_path):
    trainer = Trainer(default_root_dir=tmp_path, max_steps=5, checkpoint_every_n_steps=2, **QUIET)
    trainer.fit(BoringModel())
    assert list(tmp_path.glob("events.*"))
    assert checkpoints(tmp_path) == ["step-000004.ckpt", "step-000005.ckpt"]
    assert newest_of_run(trainer) == tmp_path / "checkpoints" / "step-000005.ckpt"


def test_the_last_checkpoint_is_that_of_the_last_step_even_if_weights_change_at_the_end(tmp_path):
    class Spoils(BoringModel):
        def on_train_end(self):
            self.layer.weight.data.zero_()

    Trainer(default_root_dir=tmp_path, max_steps=2, **QUIET).fit(Spoils())
    last = read_checkpoint(newest_valid(tmp_path / "checkpoints"))
    assert last["state_dict"]["layer.weight"].abs().sum() > 0


def test_the_checkpoint_before_a_damaged_one_is_resumed_from(tmp_path, capsys):
    options = {"default_root_dir": tmp_path, "checkpoint_every_n_steps": 2, **QUIET}
    Trainer(max_steps=4, **options).fit(BoringModel())
    weights = tmp_path / "checkpoints" / "step-000004.ckpt" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    class Remembers(BoringModel):
        def on_train_start(self):
            self.started_at = self.trainer.global_step

    model = Remembers()
    Trainer(max_steps=6, **options).fit(model, ckpt_path="last")
    assert model.started_at == 2
    assert "step-000004.ckpt is damaged: tensor 'state_dict/layer.weight' has changed" in capsys.readouterr().out
    assert checkpoints(tmp_path) == ["step-000004.ckpt", "step-000006.ckpt"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, 1),
        ({"checkpoint_every_n_steps": 0}, 0),
        ({"enable_checkpointing": False}, 0),
        ({"callbacks": ModelCheckpoint(save_last=True)}, 1),
        ({"callbacks": [ModelCheckpoint(monitor="loss")]}, 1),
        ({"callbacks": ModelCheckpoint(save_last=True), "checkpoint_every_n_steps": 0}, 0),
        ({"barebones": True, "enable_progress_bar": None}, 0),
    ],
)
def test_the_runs_own_checkpoints_are_kept_beside_others_unless_told_otherwise(options, kept, tmp_path):
    trainer = Trainer(default_root_dir=tmp_path, **{**QUIET, **options})
    assert len([callback for callback in trainer.callbacks if isinstance(callback, LastCheckpoint)]) == kept
    theirs = [] if "callbacks" not in options else listed(options["callbacks"])
    assert len(trainer.checkpoint_callbacks) == kept + len(theirs)


def test_npu_is_known_and_says_what_is_missing():
    assert AcceleratorRegistry["npu"]["accelerator"] is NPUAccelerator
    assert not NPUAccelerator.is_available()
    with pytest.raises(UserError, match="Install torch_npu"):
        Trainer(accelerator="npu")


@pytest.mark.parametrize(("devices", "indices"), [(2, [0, 1]), ("2", [0, 1]), ("0,3", [0, 3]), ([1], [1])])
def test_npu_devices_are_counted_or_listed(devices, indices):
    assert NPUAccelerator.parse_devices(devices) == indices


def test_no_module_names_one_vendor_in_code():
    sources = [path for package in ("fcot", "shards", "callbacks") for path in (ROOT / package).rglob("*.py")]
    assert not [path for path in sources if re.search(r"torch\.cuda\b", path.read_text(encoding="utf-8"))]
