import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from callbacks import Predictions
from callbacks.predictions import page_picture
from fcot.evaluation.records import read_records
from fcot.internvl.tiling import cut
from fcot.models.student_teacher import answer_samples
from fcot.runtime.trainer import Trainer
from fcot.training.realign import Realign
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards
from shards.format.writer import write_set
from shards.render.recipes import Draw


def trainer(folder, *callbacks, **options):
    options = {"max_steps": 2, "logger": False, "num_sanity_val_steps": 0, **options}
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_checkpointing=False,
        **options,
    )


def pages(root, **options):
    return Shards(root, batch_size=4, eval_batch_size=4, num_workers=0, **options)


def lines(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_each_validation_shows_the_same_pages_as_student_and_teacher_read_them(tmp_path, tiny_checkpoint, tiny_shards):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    module = Realign(tiny_checkpoint, max_new_tokens=4)
    run = trainer(
        tmp_path,
        Predictions(pages=3),
        logger=logger,
        num_sanity_val_steps=1,
        val_check_interval=1,
        check_val_every_n_epoch=None,
    )
    run.fit(module, pages(tiny_shards))
    found = lines(tmp_path)  # in the run folder, wherever the logger writes
    assert [line["step"] for line in found] == [1, 1, 1, 2, 2, 2]
    assert [line["key"] for line in found[:3]] == [line["key"] for line in found[3:]]
    batch = next(iter(run.val_dataloaders))
    module.eval()
    assert [line["student"] for line in found[3:]] == module.answers(batch)[:3]
    for shown in (found[:3], found[3:]):
        assert [line["teacher"] for line in shown] == module.answers(batch, "teacher")[:3]
        assert [(line["question"], [line["reference"]]) for line in shown] == [
            (batch.questions[i], batch.references[i]) for i in range(3)
        ]
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert events.Tags()["images"] == ["dev_pages/1", "dev_pages/2", "dev_pages/3"]
    image = events.Images("dev_pages/3")[1]
    assert (image.step, image.width, image.height) == (2, 112, 112)
    text = events.Tensors("dev_pages/3/text_summary")[1].tensor_proto.string_val[0].decode()
    assert f"    {batch.questions[2]}" in text
    assert f"    {batch.references[2][0].splitlines()[0]}" in text


def test_a_test_shows_the_test_pages_and_no_teacher_where_there_is_none(tmp_path, tiny_checkpoint, tiny_shards):
    trainer(tmp_path, Predictions(pages=6)).test(SFT(tiny_checkpoint, max_new_tokens=2), pages(tiny_shards))
    answers = {record.key: record.prediction for record in read_records(tmp_path / "test.jsonl")}
    found = lines(tmp_path)
    assert len(found) == 4  # of one task, so from the first batch alone
    for line in found:
        assert (line["split"], line["teacher"], line["student"]) == ("test", None, answers[line["key"]])


def test_every_task_is_shown_before_a_second_page_of_any(tmp_path, tiny_checkpoint):
    def draw(index):
        return replace(Draw("letters", "dev", 0, 8)(index), task="form" if index == 7 else "text")

    write_set(tmp_path / "dev", draw, 8)
    write_set(tmp_path / "train", draw, 8)
    trainer(tmp_path, Predictions(pages=3)).validate(SFT(tiny_checkpoint, max_new_tokens=2), pages(tmp_path))
    assert sorted(line["task"] for line in lines(tmp_path)) == ["form", "text", "text"]


def test_validations_between_are_left_out(tmp_path, tiny_checkpoint, tiny_shards):
    run = trainer(
        tmp_path,
        Predictions(every_n_validations=2, pages=1),
        max_steps=3,
        val_check_interval=1,
        check_val_every_n_epoch=None,
    )
    run.fit(SFT(tiny_checkpoint, max_new_tokens=2), pages(tiny_shards, dev_samples=4))
    assert [line["step"] for line in lines(tmp_path)] == [1, 3]


def test_a_trial_run_generates_but_writes_nothing(tmp_path, tiny_checkpoint, tiny_shards):
    module = SFT(tiny_checkpoint, max_new_tokens=2)
    asked = []
    answer = module.answers
    module.answers = lambda batch, branch: asked.append(len(batch)) or answer(batch, branch)
    trainer(tmp_path, Predictions(pages=2), fast_dev_run=True, logger=True).fit(module, pages(tiny_shards))
    assert sum(asked) == 2
    assert not (tmp_path / "predictions.jsonl").exists()


def test_samples_taken_from_a_batch_get_the_answers_they_get_in_it(tmp_path, tiny_checkpoint):
    def draw(index):
        wide = Image.new("RGB", (56 * (1 + index % 3), 56), "white")  # 1, 3 or 4 tiles
        wide.paste((10 * index, 0, 0), (0, 0, 30, 30))
        return replace(Draw("letters", "dev", 0, 8)(index), image=wide, question="?" * (1 + index))

    write_set(tmp_path / "dev", draw, 6)
    module = SFT(tiny_checkpoint, max_new_tokens=4)
    run = trainer(tmp_path)
    data = Shards(tmp_path, eval_batch_size=6, num_workers=0)
    run.validate(module, data)
    batch = next(iter(data.val_dataloader()))
    some = batch.take([4, 1])
    assert len(set(batch.num_tiles.tolist())) == 3
    assert some.keys == [batch.keys[4], batch.keys[1]]
    assert len(some.tiles) == int(some.num_tiles.sum())
    module.eval()
    every = module.answers(batch)
    assert module.answers(some) == [every[4], every[1]]
    rows, of_sample = module.pair.student_rows(batch), answer_samples(batch.sequences["student"])
    torch.testing.assert_close(module.pair.student_rows(some), torch.cat([rows[of_sample == i] for i in (4, 1)]))


@pytest.mark.parametrize(("width", "height"), [(56, 56), (224, 56), (56, 168), (168, 112), (112, 112)])
def test_a_picture_of_a_page_is_the_page(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height // 7, width // 7, 3), dtype=np.uint8)
    page = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
    picture = page_picture(cut(page, max_tiles=12, tile_size=56), side=224)
    assert torch.equal(picture, torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1))


def test_a_picture_of_large_tiles_is_made_small(tmp_path):
    tiles = cut(Image.new("RGB", (896, 448), "white"), max_tiles=12, tile_size=448)
    assert page_picture(tiles, side=224).shape == (3, 224, 448)


def test_tiles_of_several_images_stand_in_a_row():
    drawings = [Draw("letters", "dev", 0, 8)(index).image for index in (6, 7)]
    tiles = torch.cat([cut(image, max_tiles=4, tile_size=56) for image in drawings])
    assert torch.equal(page_picture(tiles, side=56), torch.cat(list(tiles), dim=-1))
