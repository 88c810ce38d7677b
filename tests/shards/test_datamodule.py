import json

import pytest
import webdataset as wds
from lightning.pytorch import LightningModule

from fcot.errors import UserError
from fcot.sft import SFT
from fcot.trainer import Trainer
from shards.datamodule import Shards
from shards.render.recipes import Draw

BROKEN = {
    "undecodable_image": lambda members: {**members, "png": members["png"][:200]},
    "placeholder_without_image": lambda members: {"__key__": members["__key__"], "json": members["json"]},
    "bad_json": lambda members: {**members, "json": b"{"},
}


def write(folder, samples, broken=()):
    """A set of pages, the first of them broken in the ways named."""
    folder.mkdir(parents=True)
    draw = Draw("letters", "train", 0, 100)
    with wds.TarWriter(str(folder / "shard-000000.tar")) as tar:
        for index in range(samples):
            members = draw(index).members(f"{index:04d}")
            tar.write(BROKEN[broken[index]](members) if index < len(broken) else members)
    (folder / "manifest.json").write_text(json.dumps({"samples": samples}))


def fit(root, run, checkpoint, **options):
    """Train for one pass and return the trainer."""
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=run,
        max_steps=4,
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(SFT(checkpoint), Shards(root, batch_size=4, **{"num_workers": 0, **options}))
    return trainer


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_goes_on_without_its_few_unusable_samples_and_names_them(tmp_path, tiny_checkpoint, workers):
    write(tmp_path / "data" / "train", 19, list(BROKEN))
    trainer = fit(tmp_path / "data", tmp_path / "run", tiny_checkpoint, max_skipped=0.2, num_workers=workers)
    assert trainer.global_step == 4
    lines = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert sorted((line["key"], line["reason"]) for line in lines) == [
        (f"{index:04d}", reason) for index, reason in enumerate(BROKEN)
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_stops_when_too_many_samples_are_unusable(tmp_path, tiny_checkpoint, workers):
    write(tmp_path / "data" / "train", 19, list(BROKEN))
    with pytest.raises(UserError) as caught:
        fit(tmp_path / "data", tmp_path / "run", tiny_checkpoint, max_skipped=0.12, num_workers=workers)
    message = str(caught.value)
    assert "3 of 19 samples could not be used, more than max_skipped=12.00%" in message
    assert all(f"1 {reason}" in message for reason in BROKEN)
    assert str(tmp_path / "run" / "skipped.jsonl") in message


def test_a_run_on_nothing_usable_stops(tmp_path, tiny_checkpoint):
    write(tmp_path / "data" / "train", 2, ["bad_json", "bad_json"])
    with pytest.raises(UserError, match="None of the 2 samples"):
        fit(tmp_path / "data", tmp_path / "run", tiny_checkpoint, max_skipped=1.0)


def test_a_recipe_builds_the_sets_that_are_missing_and_no_other(tmp_path):
    write(tmp_path / "dev", 3)
    shards = Shards(tmp_path, recipe="letters", recipe_samples={"train": 5, "dev": 7}, recipe_seed=4)
    shards.prepare_data()
    assert (shards.size("train"), shards.size("dev"), shards.size("test")) == (5, 3, None)
    assert json.loads((tmp_path / "train" / "manifest.json").read_text())["seed"] == 4


def test_a_limit_is_the_size_of_what_is_read(tmp_path, tiny_checkpoint):
    write(tmp_path / "dev", 5)
    shards = Shards(tmp_path, dev_samples=3, eval_batch_size=2, num_workers=0)
    layout = SFT(tiny_checkpoint).layout
    assert shards.size("dev") == 3
    assert sum(map(len, shards.loader("dev", layout=layout))) == 3
    assert sum(map(len, shards.loader("dev", layout=layout, limit=1))) == 1


def test_a_module_that_says_nothing_of_pages_is_refused(tmp_path, tiny_checkpoint):
    class Other(LightningModule):
        def training_step(self, batch, batch_idx):
            """Never called."""

        def configure_optimizers(self):
            """Nothing learns."""

    write(tmp_path / "data" / "train", 1)
    trainer = Trainer(
        accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_checkpointing=False, max_steps=1
    )
    with pytest.raises(UserError, match="no page layout"):
        trainer.fit(Other(), Shards(tmp_path / "data", num_workers=0))
