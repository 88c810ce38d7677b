import io
import json
from collections import Counter

import numpy as np
import pytest
import torch
import webdataset as wds
from PIL import Image

from fcot.errors import UserError
from fcot.internvl.encoder import IGNORED
from fcot.training.realign import Realign
from shards.feed.datamodule import Shards
from shards.format.writer import write_set
from shards.render.recipes import Draw

SAMPLES = 26
KEYS = [f"{index:08d}" for index in range(SAMPLES)]


@pytest.fixture(scope="module")
def layout(tiny_checkpoint):
    return Realign(tiny_checkpoint).layout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four shards, of 8, 8, 8 and 2 samples."""
    folder = tmp_path_factory.mktemp("set") / "train"
    write_set(folder, Draw("letters", "train", 0, SAMPLES), SAMPLES, shard_size=8)
    return folder


def stream(source, layout, workers=0, *, batch_size=3, seed=None, ordered=False, max_skipped=1.0, **options):
    """A loader of one set; shuffled if it has a seed."""
    data = Shards(
        source.parent,
        batch_size=batch_size,
        eval_batch_size=batch_size,
        num_workers=workers,
        seed=seed or 0,
        ordered=ordered,
        max_skipped=max_skipped,
    )
    return data.loader(source.name, layout=layout, training=seed is not None, **options)


def keys(batches):
    return [key for batch in batches for key in batch.keys]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle_seed", [None, 5])
def test_an_epoch_has_every_sample_once(source, layout, workers, shuffle_seed):
    batches = stream(source, layout, workers, seed=shuffle_seed)
    for _ in range(2):
        epoch = list(batches)
        assert sorted(keys(epoch)) == KEYS
        assert max(map(len, epoch)) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_follows_seed_and_epoch(source, layout, workers):
    def epochs(seed):
        batches = stream(source, layout, workers, batch_size=2, seed=seed)
        return [keys(batches), keys(batches)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    assert first[0] != first[1]
    assert first != other


def test_without_a_seed_every_pass_is_the_same(source, layout):
    batches = stream(source, layout)
    assert keys(batches) == keys(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_limit_keeps_the_same_first_samples_whoever_reads(source, layout, workers):
    batches = stream(source, layout, workers, limit=11)
    assert sorted(keys(batches)) == KEYS[:11]
    assert sorted(keys(batches)) == KEYS[:11]


def test_batches_are_of_similar_length(source, layout):
    spread = [
        int((batch.sequences["student"].labels != IGNORED).sum(1).float().std(correction=0))
        for batch in stream(source, layout, batch_size=4)
    ]
    whole = next(iter(stream(source, layout, batch_size=SAMPLES)))
    lengths = (whole.sequences["student"].labels != IGNORED).sum(1).float()
    assert max(spread[:-1]) < lengths.std()


def test_both_sides_of_a_batch_fit_its_tiles(source, layout):
    image_id = layout.encoder.image_token_id
    for batch in stream(source, layout):
        assert len(batch.tiles) == batch.num_tiles.sum()
        for side, tokens in (("teacher", 4), ("student", 2)):
            ids = batch.sequences[side].input_ids
            assert ((ids == image_id).sum(1) == tokens * batch.num_tiles).all()
        teacher, student = (batch.sequences[side].labels for side in ("teacher", "student"))
        assert torch.equal(teacher[teacher != IGNORED], student[student != IGNORED])


@pytest.mark.parametrize("workers", [0, 2])
def test_jpeg_marks_differ_by_epoch_and_return_with_the_seed_in_training_only(source, layout, workers):
    def tiles(quality, **options):
        data = Shards(source.parent, batch_size=3, eval_batch_size=3, num_workers=workers, jpeg_quality=quality)
        loader = data.loader(source.name, layout=layout, **options)
        return [{key: tile for batch in loader for key, tile in by_page(batch)} for _ in range(2)]

    def by_page(batch):
        return zip(batch.keys, batch.tiles.split(batch.num_tiles.tolist()), strict=True)

    def same(one, other):
        return [torch.equal(one[key], other[key]) for key in KEYS]

    first, again, plain = tiles(75, training=True), tiles(75, training=True), tiles(None, training=True)
    assert all(same(first[0], again[0]) + same(first[1], again[1]))
    assert not all(same(first[0], first[1]))
    assert not any(same(first[0], plain[0]))
    assert all(same(tiles(75)[0], plain[0]))


def test_prompts_are_padded_on_the_left_and_only_there_when_asked_for(source, layout):
    batch = next(iter(stream(source, layout, batch_size=8, with_prompts=True)))
    sequences = batch.sequences["student"]
    assert sequences.prompt_mask[:, -1].all()
    assert (sequences.prompt_mask.diff(dim=1) >= 0).all()
    assert sequences.prompt_mask.sum(1).tolist() == [
        int((row != IGNORED).nonzero()[0]) for row in sequences.labels
    ]  # a prompt is what comes before the answer
    assert next(iter(stream(source, layout))).sequences["student"].prompt_ids is None


def page(side=56):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "white").save(buffer, "PNG")
    return buffer.getvalue()


def record(question="<image>\nWhat?", answer="this"):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return json.dumps({"conversations": turns, "task": "ocr"}).encode()


GOOD = {"png": page(), "json": record()}
BAD = {
    "undecodable_image": {"png": page()[:50], "json": record()},
    "placeholder_without_image": {"json": record()},
    "image_without_placeholder": {"0.png": page(), "1.png": page(), "json": record()},
    "no_answer": {"png": page(), "json": record(answer=" ")},
    "too_long": {"png": page(), "json": record("<image>\n" + "why " * 500)},
    "bad_json": {"png": page(), "json": b'{"conversations": ['},
    "missing_json": {"png": page()},
}


def write(folder, *samples):
    folder.mkdir(parents=True, exist_ok=True)
    with wds.TarWriter(str(folder / "shard-000000.tar")) as tar:
        for index, members in enumerate(samples):
            tar.write({"__key__": f"{index:04d}", **members})
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_unusable_samples_are_skipped_counted_and_named_and_the_others_delivered(tmp_path, layout, workers):
    source = write(tmp_path / "train", GOOD, *BAD.values(), GOOD)
    batches = stream(source, layout, workers)
    ledger = batches.ledger
    ledger.path = tmp_path / "skipped.jsonl"
    assert keys(batches) == ["0000", "0008"]
    assert (ledger.seen, ledger.consumed, ledger.skipped) == (9, 2, 7)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert sorted((line["shard"], line["key"], line["reason"]) for line in lines) == [
        ("train/shard-000000.tar", f"{index:04d}", reason) for index, reason in enumerate(BAD, start=1)
    ]
    assert all(line["detail"] for line in lines)
    assert Counter(ledger.summary().split(", ")) == Counter(f"1 {reason}" for reason in BAD)


def test_text_alone_and_several_images_are_batched_together(tmp_path, layout):
    two = {"0.png": page(), "1.png": page(112), "json": record("<image> and <image>?")}
    source = write(tmp_path / "train", GOOD, {"json": record("2 + 2?")}, two)
    (batch,) = stream(source, layout)
    tiles = dict(zip(batch.keys, batch.num_tiles.tolist(), strict=True))
    assert tiles == {"0000": 1, "0001": 0, "0002": 1 + 5}
    assert len(batch.tiles) == 7


def test_a_set_without_any_usable_sample_is_refused(tmp_path, layout):
    with pytest.raises(UserError, match=r"None of the 1 samples in .*train could be used \(1 missing_json\)"):
        stream(write(tmp_path / "train", BAD["missing_json"]), layout, seed=0)


def test_a_set_of_which_no_sample_can_be_read_ends_the_training(tmp_path, layout):
    batches = stream(write(tmp_path / "train", BAD["no_answer"]), layout, seed=0)
    assert list(batches) == []
    with pytest.raises(UserError, match=r"None of the 1 samples in .*train could be used \(1 no_answer\)"):
        list(batches)


def test_no_shards_is_answered_with_how_to_get_some(tmp_path, layout):
    with pytest.raises(UserError, match=r"no shards at .*nowhere'\.\nBuild .*fcot shards build"):
        stream(tmp_path / "nowhere", layout)


def test_a_pass_may_begin_anywhere_and_ends_with_the_same_batches(source, layout):
    whole = [batch.keys for batch in stream(source, layout, batch_size=4, seed=1)]
    for workers in (0, 2):
        batches = stream(source, layout, workers, batch_size=4, seed=1, at=(0, 12))
        assert [batch.keys for batch in batches] == whole[3:]
        again = stream(source, layout, batch_size=4, seed=1, at=(1, 0))
        assert [batch.keys for batch in batches] == [batch.keys for batch in again]


@pytest.mark.parametrize("gone", [True, False])
def test_samples_that_get_lost_on_the_way_end_the_run(source, layout, gone):
    batches = stream(source, layout, seed=1)
    mine = batches.stream.mine
    batches.stream.mine = lambda *step: mine(*step)[1:] if gone else np.append(mine(*step), 0)
    batches.stream.expected = lambda epoch, start: SAMPLES
    with pytest.raises(UserError, match=r"The train set should give 26 samples in this pass, and \d+ were consumed"):
        list(batches)


def test_one_file_is_a_set(source, layout):
    assert sorted(keys(stream(source / "shard-000003.tar", layout))) == KEYS[24:]
    assert (source / "shard-000003.tar.manifest.json").is_file()
