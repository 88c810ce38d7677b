import io
import json
from collections import Counter

import pytest
import torch
import webdataset as wds
from PIL import Image
from torch.utils.data import DataLoader

from fcot.errors import UserError
from fcot.internvl.tokens import IGNORED
from fcot.realign import Realign
from shards.ledger import Ledger
from shards.reader import BatchStream
from shards.render.recipes import Draw
from shards.writer import write_set

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


def stream(source, layout, ledger=None, **options):
    return BatchStream(source, layout, ledger or Ledger(None, None, 1.0), **{"batch_size": 3, **options})


def keys(batches):
    return [key for batch in batches for key in batch.keys]


def loader(batches, workers):
    return DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle_seed", [None, 5])
def test_an_epoch_has_every_sample_once(source, layout, workers, shuffle_seed):
    batches = loader(stream(source, layout, shuffle_seed=shuffle_seed), workers)
    for _ in range(2):
        epoch = list(batches)
        assert sorted(keys(epoch)) == KEYS
        assert max(map(len, epoch)) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_follows_seed_and_epoch(source, layout, workers):
    def epochs(seed):
        batches = loader(stream(source, layout, batch_size=2, shuffle_seed=seed), workers)
        return [keys(batches), keys(batches)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    assert first[0] != first[1]
    assert first != other


def test_without_a_seed_every_pass_is_the_same(source, layout):
    batches = stream(source, layout)
    assert keys(batches) == keys(batches)


def test_ordered_shards_stay_in_order(source, layout):
    options = {"batch_size": 1, "shuffle_seed": 3}  # eight batches of one are drawn together: a shard's samples
    ordered = keys(stream(source, layout, ordered_shards=True, **options))
    shards = [KEYS[:8], KEYS[8:16], KEYS[16:24], KEYS[24:]]
    assert [sorted(ordered[start : start + 8]) for start in (0, 8, 16, 24)] == shards
    assert ordered != KEYS
    free = keys(stream(source, layout, **options))
    assert [sorted(free[start : start + 8]) for start in (0, 8, 16, 24)] != shards


@pytest.mark.parametrize("workers", [0, 2])
def test_a_limit_keeps_the_same_first_samples_whoever_reads(source, layout, workers):
    batches = loader(stream(source, layout, limit=11), workers)
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


def write(folder, *samples, manifest=None):
    folder.mkdir(parents=True, exist_ok=True)
    with wds.TarWriter(str(folder / "shard-000000.tar")) as tar:
        for index, members in enumerate(samples):
            tar.write({"__key__": f"{index:04d}", **members})
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_unusable_samples_are_skipped_counted_and_named_and_the_others_delivered(tmp_path, layout):
    source = write(tmp_path / "train", GOOD, *BAD.values(), GOOD)
    ledger = Ledger(tmp_path / "skipped.jsonl", 9, 1.0)
    assert keys(stream(source, layout, ledger)) == ["0000", "0008"]
    assert (ledger.seen, ledger.skipped) == (9, 7)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [(line["shard"], line["key"], line["reason"]) for line in lines] == [
        ("train/shard-000000.tar", f"{index:04d}", reason) for index, reason in enumerate(BAD, start=1)
    ]
    assert all(line["detail"] for line in lines)
    assert Counter(ledger.summary().split(", ")) == Counter(f"1 {reason}" for reason in BAD)


def test_counts_of_several_workers_add_up(tmp_path, layout):
    for number in range(2):
        write(tmp_path / "sets" / str(number), *[GOOD, BAD["no_answer"]] * 4)
        (tmp_path / "sets" / str(number) / "shard-000000.tar").rename(tmp_path / "sets" / f"{number}.tar")
    ledger = Ledger(tmp_path / "skipped.jsonl", None, 1.0)
    assert len(keys(loader(stream(tmp_path / "sets", layout, ledger), 2))) == 8
    assert (ledger.seen, ledger.skipped, ledger.summary()) == (16, 8, "8 no_answer")


def test_text_alone_and_several_images_are_batched_together(tmp_path, layout):
    two = {"0.png": page(), "1.png": page(112), "json": record("<image> and <image>?")}
    source = write(tmp_path / "train", GOOD, {"json": record("2 + 2?")}, two)
    (batch,) = stream(source, layout)
    tiles = dict(zip(batch.keys, batch.num_tiles.tolist(), strict=True))
    assert tiles == {"0000": 1, "0001": 0, "0002": 1 + 5}
    assert len(batch.tiles) == 7


def test_a_set_without_any_usable_sample_ends_the_training(tmp_path, layout):
    batches = stream(write(tmp_path / "train", BAD["no_answer"]), layout, shuffle_seed=0)
    assert list(batches) == []
    with pytest.raises(UserError, match=r"None of the 1 samples in .*train could be used"):
        list(batches)


def test_a_shard_cut_between_two_samples_is_noticed_by_the_manifest(tmp_path, layout):
    manifest = {"samples": 3, "shards": [{"name": "shard-000000.tar", "samples": 3}]}
    whole = write(tmp_path / "whole", GOOD, GOOD, GOOD, manifest=manifest)
    assert len(keys(stream(whole, layout))) == 3
    cut = write(tmp_path / "cut", GOOD, GOOD, manifest=manifest)
    with pytest.raises(UserError, match=r"shard-000000\.tar has 2 samples, and the set's manifest\.json says 3"):
        list(stream(cut, layout))
    assert len(keys(stream(cut, layout, limit=1))) == 1  # not read to its end


@pytest.mark.parametrize("size", [0, 700, 3000])
def test_a_shard_that_ends_inside_a_sample_is_an_error_of_a_few_lines(tmp_path, layout, size):
    source = write(tmp_path / "train", *[{"png": page() + bytes(3000), "json": record()}] * 3)
    shard = source / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(UserError, match=r"A shard in .*train cannot be read .*shard-000000\.tar"):
        list(stream(source, layout))


def test_no_shards_is_answered_with_how_to_get_some(tmp_path, layout):
    with pytest.raises(UserError, match=r"no shards at .*nowhere'\.\nBuild .*python -m fcot shards build"):
        stream(tmp_path / "nowhere", layout)


def test_one_file_is_a_set(source, layout):
    assert sorted(keys(stream(source / "shard-000003.tar", layout))) == KEYS[24:]
