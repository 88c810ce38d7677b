import json
import re
from pathlib import Path

import pytest
import webdataset as wds

from callbacks import SkippedSamples
from fcot.errors import UserError
from fcot.runtime.trainer import Trainer
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards
from shards.render.recipes import Draw


def write(folder, good, *, undecodable=0, unanswered=0, cut=0, manifest=True):
    """Write one shard of `good` samples behind unusable ones; those with a cut image are found when they are read."""
    folder.mkdir(parents=True)
    draw = Draw("letters", "train", 0, 100)
    total = good + undecodable + unanswered + cut
    with wds.TarWriter(str(folder / "shard-000000.tar")) as tar:
        for index in range(total):
            members = draw(index).members(f"{index:04d}")
            if index < undecodable:
                members["png"] = b"not an image"
            elif index < undecodable + unanswered:
                turn = {"from": "human", "value": "<image>\nWhat?"}
                members["json"] = json.dumps({"conversations": [turn, {"from": "gpt", "value": " "}]}).encode()
            elif index < total - good:
                members["png"] = members["png"][:200]
            tar.write(members)
    if manifest:
        (folder / "manifest.json").write_text(json.dumps({"samples": total}))


def trainer(folder, **options):
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        **{"logger": False, "enable_checkpointing": False, "limit_val_batches": 0, **options},
    )


def pages(root, **options):
    return Shards(root, batch_size=2, eval_batch_size=2, num_workers=0, **options)


def said(capsys):
    out = capsys.readouterr().out.replace("\n", " ")
    return re.findall(r"(?:train|dev|test): \d+ of \d+ samples skipped: .*?skipped\w*\.jsonl", out)


def test_an_epoch_ends_with_what_was_skipped_and_why(tmp_path, tiny_checkpoint, capsys):
    write(tmp_path / "train", 5, undecodable=2, unanswered=1)
    trainer(tmp_path / "run", max_steps=3, max_epochs=1).fit(SFT(tiny_checkpoint), pages(tmp_path, max_skipped=1.0))
    (line,) = said(capsys)
    assert line.startswith("train: 3 of 8 samples skipped: 2 undecodable_image, 1 no_answer; named in ")
    assert len(Path(line.partition(" named in ")[2]).read_text().splitlines()) == 3


def test_nothing_is_said_of_sets_that_are_whole(tmp_path, tiny_checkpoint, tiny_shards, capsys):
    trainer(tmp_path, max_steps=2).fit(SFT(tiny_checkpoint), pages(tiny_shards))
    trainer(tmp_path).test(SFT(tiny_checkpoint, max_new_tokens=1), pages(tiny_shards))
    assert said(capsys) == []


def test_a_test_says_what_it_left_out(tmp_path, tiny_checkpoint, capsys):
    write(tmp_path / "test", 3, unanswered=1)
    trainer(tmp_path / "run").test(SFT(tiny_checkpoint, max_new_tokens=1), pages(tmp_path, max_skipped=0.5))
    assert [line.split(";")[0] for line in said(capsys)] == ["test: 1 of 4 samples skipped: 1 no_answer"]


def test_the_dev_set_is_reported_once_an_epoch(tmp_path, tiny_checkpoint, capsys):
    write(tmp_path / "train", 4)
    write(tmp_path / "dev", 3, undecodable=1)
    run = trainer(
        tmp_path / "run",
        max_steps=2,
        max_epochs=1,
        limit_val_batches=1.0,
        num_sanity_val_steps=0,
        val_check_interval=1,
        check_val_every_n_epoch=None,
    )
    run.fit(SFT(tiny_checkpoint), pages(tmp_path, max_skipped=1.0))
    assert [line.split(" samples")[0] for line in said(capsys)] == ["dev: 2 of 8"]


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_a_set_without_manifest_is_judged_once_it_was_read(tmp_path, tiny_checkpoint, verb):
    split = {"fit": "train", "validate": "dev", "test": "test"}[verb]
    write(tmp_path / split, 3, undecodable=1, manifest=False)
    limit = 0 if verb == "fit" else 1.0
    run = trainer(tmp_path / "run", max_steps=10, max_epochs=1, limit_val_batches=limit)
    with pytest.raises(UserError, match=r"1 of 4 samples could not be used, more than max_skipped=10\.00%"):
        getattr(run, verb)(SFT(tiny_checkpoint, max_new_tokens=1), pages(tmp_path, max_skipped=0.1))


def test_a_part_of_a_set_is_not_judged_by_itself(tmp_path, tiny_checkpoint, capsys):
    write(tmp_path / "train", 30, undecodable=2)
    write(tmp_path / "dev", 30, undecodable=2)
    data = pages(tmp_path, max_skipped=0.1, ordered=True, dev_samples=4)
    run = trainer(tmp_path / "run", max_steps=1, limit_val_batches=1.0, num_sanity_val_steps=0)
    run.fit(SFT(tiny_checkpoint), data)
    run.validate(SFT(tiny_checkpoint), data)
    assert [line.split(" samples")[0] for line in said(capsys)] == ["train: 2 of 6", "dev: 2 of 4"]


def test_a_run_that_names_the_callback_says_it_once_too(tmp_path, tiny_checkpoint, capsys):
    write(tmp_path / "train", 3, unanswered=1)
    run = trainer(tmp_path / "run", max_steps=2, max_epochs=1, callbacks=[SkippedSamples()])
    run.fit(SFT(tiny_checkpoint), pages(tmp_path, max_skipped=1.0))
    assert [line.split(";")[0] for line in said(capsys)] == ["train: 1 of 4 samples skipped: 1 no_answer"]


PAIR = {"processes": 2, "max_steps": 100, "max_epochs": 1, "limit_val_batches": 0}


def data(max_skipped, batch_size=2):
    return {"data": {"batch_size": batch_size, "max_skipped": max_skipped}}


@pytest.mark.parametrize(("share", "code"), [(0.25, 0), (0.2, 1)])
def test_samples_of_two_processes_are_judged_and_told_of_together(forks, tmp_path, share, code):
    """Those that indexing set aside, too, which the first process has all of."""
    write(tmp_path / "train", 15, unanswered=1, cut=4)
    assert forks.train(tmp_path / "run", shards=str(tmp_path), **PAIR, **data(share)) == [code, code]
    out = (tmp_path / "run" / "said").read_text()
    assert out.count("train: 5 of 20 samples skipped: 4 undecodable_image, 1 no_answer; named in ") == 1
    assert out.count("5 of 20 samples could not be used, more than max_skipped=20.00%") == 2 * code


def test_two_processes_stop_together_while_they_read(forks, tmp_path):
    """Either alone has not skipped too much of the set yet."""
    write(tmp_path / "train", 85, cut=25)
    run = {**PAIR, "max_steps": 52, "checkpoint_every_n_steps": 0}
    assert forks.train(tmp_path / "run", shards=str(tmp_path), **run, **data(0.15, 1)) == [1, 1]
    found = re.findall(r"(\d+) of 110 samples could not be used", (tmp_path / "run" / "said").read_text())
    assert len(found) == 2 and len(set(found)) == 1
    assert len(forks.record(tmp_path / "run")) == 50


def test_a_checkpoint_of_two_processes_has_the_counts_of_both(forks, tmp_path):
    write(tmp_path / "train", 15, unanswered=1, cut=4)
    run = {**PAIR, "shards": str(tmp_path), **data(0.25)}
    assert forks.train(tmp_path / "run", **{**run, "max_steps": 3}) == [0, 0]
    assert forks.train(tmp_path / "run", ckpt_path="last", **run) == [0, 0]
    said = (tmp_path / "run" / "said").read_text()
    assert "train: 5 of 20 samples skipped: 4 undecodable_image, 1 no_answer" in said
