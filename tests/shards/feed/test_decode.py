import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from fcot.errors import SampleError
from fcot.internvl.encoder import IGNORED
from shards.feed.decode import prepare

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "this"}]


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def noise(width=40, height=40):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def grey(level):
    return encoded(Image.new("L", (56, 56), level))


def sample(json_member=None, **members):
    record = {"conversations": TURNS, "task": "ocr"} if json_member is None else json_member
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    return {"__key__": "a", "__url__": "x.tar", "json": data, **members}


def spoken(question):
    return b'{"conversations": [{"from": "human", "value": "<image>%s"}, {"from": "gpt", "value": "a"}]}' % question


def reason(call, *args):
    with pytest.raises(SampleError) as caught:
        call(*args)
    return caught.value.reason


def test_a_sample_is_tiled_and_encoded(layout):
    record = {"conversations": TURNS, "task": "ocr", "references": ["this", "that", 5]}
    found = prepare(sample(record, png=encoded(noise(112, 56))), layout)
    assert (found.key, found.task, found.question, found.references) == ("a", "ocr", "What?", ["this", "that", "5"])
    assert found.tiles.shape == (3, 3, 56, 56)
    assert found.encoded.tiles == (3,)
    assert found.prompt is None
    prompt = prepare(sample(record, png=encoded(noise(112, 56))), layout, with_prompt=True).prompt
    assert (prompt.labels == IGNORED).all()
    assert len(prompt.ids) == len(found.encoded.ids) - len("this") - 1


def test_without_references_the_last_answer_is_the_reference(layout):
    turns = [*TURNS, {"from": "human", "value": " And then? "}, {"from": "gpt", "value": "that"}]
    found = prepare(sample({"conversations": turns}, png=grey(0)), layout)
    assert (found.question, found.references, found.task) == ("And then?", ["that"], "unknown")


def test_images_come_in_the_order_of_their_numbers(layout):
    turns = [{"from": "human", "value": "<image>" * 12}, {"from": "gpt", "value": "ok"}]
    members = {f"{place}.png": grey(10 * place) for place in (11, 3, 0, 10, 2, 1, 4, 9, 5, 6, 8, 7)}
    found = prepare(sample({"conversations": turns}, **members), layout)
    assert found.tiles[:, 0, 0, 0].tolist() == [10 * place for place in range(12)]


def test_a_sample_without_images_has_no_tiles(layout):
    turns = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]
    found = prepare(sample({"conversations": turns}), layout)
    assert found.tiles.shape == (0, 3, 56, 56)
    assert found.tiles.dtype == torch.uint8


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"{", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (spoken(b"half \xed\xa0\x80 a pair"), "bad_json"),
        (spoken(b"half \\udC00 a pair"), "bad_json"),
        (spoken(b"half \\uDc00 a pair").decode().encode("utf-16"), "bad_json"),
        (spoken(b"half \xed\xb0\x80").decode(errors="surrogatepass").encode("utf-16", "surrogatepass"), "bad_json"),
        (b"[1]", "bad_json"),
        (b'{"conversations": "hello"}', "bad_json"),
        (b'{"conversations": ["hello", "you"]}', "bad_json"),
        (b'{"text": "hello"}', "bad_json"),
        ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "b"}]}, "bad_json"),
        ({"conversations": TURNS, "references": "this"}, "bad_json"),
        ({"conversations": []}, "no_answer"),
        ({"conversations": TURNS[:1]}, "no_answer"),
        ({"conversations": [TURNS[0], {"from": "gpt", "value": ""}]}, "no_answer"),
    ],
)
def test_unusable_records_say_why(layout, record, expected):
    assert reason(prepare, sample(record, png=grey(0)), layout) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_a_record_in_any_encoding_of_json_is_read(layout, encoding):
    whole = spoken("\U0001d11e and \\ud834\\udd1e".encode()).decode().encode(encoding)
    assert prepare(sample(whole, png=grey(0)), layout).question == "\U0001d11e and \U0001d11e"


def test_missing_members_say_why(layout):
    assert reason(prepare, {"__key__": "a", "png": grey(0)}, layout) == "missing_json"
    assert reason(prepare, sample(), layout) == "placeholder_without_image"
    two = {"0.png": grey(0), "1.png": grey(0)}
    assert reason(prepare, sample(**two), layout) == "image_without_placeholder"
