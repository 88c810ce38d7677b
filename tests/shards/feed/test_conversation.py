"""What shards written elsewhere say in their JSON: ids, numbers, media and other programs' placeholders."""

import json
import tarfile

import pytest

from fcot.errors import SampleError
from fcot.runtime.trainer import Trainer
from fcot.training.sft import SFT
from shards.feed.conversation import parse, readable, text_of
from shards.feed.datamodule import Shards
from shards.feed.decode import prepare
from tests.shards.made import add, page, write


def sample(question="<image>\nTotal?", answer='"42"', **fields):
    """The JSON of a sample; the answer is given as JSON."""
    more = "".join(f', "{name}": {json.dumps(value)}' for name, value in fields.items())
    asked = json.dumps({"from": "human", "value": question})
    return f'{{"conversations": [{asked}, {{"from": "gpt", "value": {answer}}}]{more}}}'.encode()


def raw(data, **images):
    return {"__key__": "a", "json": data, **(images or {"jpg": page()})}


@pytest.mark.parametrize(
    "number", ["42", "42.50", "0.10", "-7", "1e3", "123456789012345678901234567890", "1.0000000000000000001"]
)
def test_a_number_is_an_answer_with_the_digits_it_is_written_with(layout, number):
    assert prepare(raw(sample(answer=number)), layout).references == [number]


@pytest.mark.parametrize("value", ["true", "null", "[42]", '{"a": 1}'])
def test_other_values_are_no_answer(layout, value):
    with pytest.raises(SampleError, match="expected text") as caught:
        prepare(raw(sample(answer=value)), layout)
    assert caught.value.reason == "bad_json"


def test_a_written_number_is_a_number_all_the_same():
    number = parse(b"42.50")
    assert (number, text_of(number), json.dumps(number), f"{number}") == (42.5, "42.50", "42.5", "42.50")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sample(video="x.mp4"), "unsupported_media"),
        (sample(audios=["x.wav"]), "unsupported_media"),
        (sample("<image>\n<video>\nWhat happens?"), "unsupported_media"),
        (sample("<|image_pad|> or <|image_pad|>?"), "foreign_placeholder"),
    ],
)
def test_what_is_not_read_is_refused_in_shards_too(layout, data, reason):
    with pytest.raises(SampleError) as caught:
        prepare(raw(data), layout)
    assert caught.value.reason == reason


def test_placeholders_are_understood_in_shards_too(layout):
    given = prepare(raw(sample("<image>\nTotal?", audio=None, video="")), layout)
    other = prepare(raw(sample("<|vision_start|><|image_pad|><|vision_end|>\nTotal?")), layout)
    assert other.encoded.ids.tolist() == given.encoded.ids.tolist()
    assert (other.question, given.question) == ("Total?", "Total?")


def test_answers_are_left_as_they_are():
    turns = readable({"conversations": json.loads(sample(answer='"<|image_pad|> <video>"'))["conversations"]}, 1)
    assert turns[1]["value"] == "<|image_pad|> <video>"


def test_videos_beside_the_pages_are_named_as_such(tmp_path, layout):
    root = write(tmp_path, ("x.mp4", b"\0"), ("x.jpg", page()), ("x.json", sample()))
    (aside,) = Shards(root).samples("train").quarantined()
    assert aside[1:3] == ("x", "unsupported_media")


def test_ids_are_in_predictions_and_beside_what_was_skipped(tmp_path, tiny_checkpoint):
    root = write(
        tmp_path / "data",
        *[("a.jpg", page()), ("a.json", sample(id="inv-7"))],
        *[("b.jpg", page()), ("b.json", sample(id=8, video="x.mp4"))],
        *[("c.jpg", page()), ("c.json", json.dumps({"conversations": [], "id": "empty"}).encode())],
        *[("d.jpg", page()), ("d.json", sample(id=9))],
    )
    (root / "train").rename(root / "test")
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path / "run", logger=False, enable_progress_bar=False)
    data = Shards(root, num_workers=0, max_skipped=1.0)
    trainer.predict(SFT(tiny_checkpoint, max_new_tokens=2), data)
    lines = [json.loads(line) for line in (tmp_path / "run" / "predict.jsonl").read_text().splitlines()]
    assert {line["key"]: line.get("id") for line in lines} == {"a": "inv-7", "d": 9, "first": None, "last": None}
    skipped = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert {line["key"]: line["id"] for line in skipped} == {"b": 8, "c": "empty"}
    trainer.test(SFT(tiny_checkpoint, max_new_tokens=2), data)
    lines = [json.loads(line) for line in (tmp_path / "run" / "test.jsonl").read_text().splitlines()]
    assert {line["key"]: line.get("id") for line in lines} == {"a": "inv-7", "d": 9, "first": None, "last": None}


def test_what_a_mac_packs_beside_files_is_no_sample(tmp_path, layout):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("._a.jpg", "__MACOSX/._a.json", "__MACOSX/b.jpg", "f/.DS_Store", "f/Thumbs.db"):
            add(tar, name, b"\0\5\x16\7")
        add(tar, "a.jpg", page())
        add(tar, "a.json", sample())
    from shards.format.shard_set import ShardSet

    samples = ShardSet(tmp_path / "x.tar")
    assert (len(samples), samples.quarantined(), samples.name(0)[1]) == (1, [], "a")
