"""Messages of parts, and where a record may have its images."""

import base64
import json

import pytest

from fcot.errors import SampleError
from shards.importers.image_sources import image_bytes
from shards.importers.messages import canonical
from tests.shards.made import page

URI = "data:image/png;base64," + base64.b64encode(page(form="PNG")).decode()
ANSWER = {"role": "assistant", "content": "42"}


def user(*parts):
    return {"role": "user", "content": list(parts)}


def text(said):
    return {"type": "text", "text": said}


def reason(call, *given):
    with pytest.raises(SampleError) as caught:
        call(*given)
    return caught.value.reason


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.png"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "url": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "high"}},
        {"type": "image_url", "image_url": "file://a.png"},
        {"type": "input_image", "image_url": URI},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": URI.partition(",")[2]}},
        {"type": "image", "base64": URI.partition(",")[2]},
        {"image": "a.png"},
        {"type": "image", "image": {"bytes": page(form="PNG"), "path": None}},
    ],
)
def test_an_image_among_the_parts_is_found_in_every_form(tmp_path, part):
    (tmp_path / "a.png").write_bytes(page(form="PNG"))
    turns, shown = canonical([user(part, text("Total?")), ANSWER])
    assert [turn["value"] for turn in turns] == ["<image>\nTotal?", "42"]
    (image,) = shown
    assert image_bytes(image, tmp_path)[1] == page(form="PNG")


def test_parts_stand_where_they_stand():
    image = {"type": "image"}
    system = {"role": "system", "content": [text("Be terse.")]}
    asked = user(text("First"), image, text("or"), image, "last?")
    turns, shown = canonical([system, asked, ANSWER], ["a.png", "b.png"])
    assert turns[0]["value"] == "Be terse.\nFirst\n<image>\nor\n<image>\nlast?"
    assert shown == ["a.png", "b.png"]


def test_images_listed_beside_the_parts_must_fit_them():
    two = [user({"type": "image"}, {"type": "image"}), ANSWER]
    assert reason(canonical, two, ["a.png"]) == "placeholder_without_image"
    assert reason(canonical, two, ["a.png", "b.png", "c.png"]) == "image_without_placeholder"
    once_more = [user({"type": "image", "image": "a.png"}), ANSWER]
    assert canonical(once_more, ["a.png"])[1] == [{"type": "image", "image": "a.png"}]
    assert canonical([user(text("2 + 2?")), ANSWER], ["a.png"])[1] == ["a.png"]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (user({"type": "video", "video": "x.mp4"}), "unsupported_media"),
        (user({"type": "input_audio", "input_audio": {"data": "x"}}), "unsupported_media"),
        (user({"type": "tool_use", "input": {}}), "bad_json"),
        (user(7.5, None), "bad_json"),
        (user(), "bad_json"),
        ({"role": "tool", "content": "x"}, "bad_json"),
        ({"role": ["user"], "content": "x"}, "bad_json"),
        ({"role": "user", "content": None}, "bad_json"),
        ({"role": "assistant", "content": [{"type": "image", "image": "a.png"}]}, "image_in_answer"),
        ("hello", "bad_json"),
    ],
)
def test_other_parts_say_what_they_are(turn, expected):
    assert reason(canonical, [turn, ANSWER]) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("https://example.invalid/a.png", "remote_image"),
        ("HTTP://example.invalid/a.png", "remote_image"),
        ("s3://bucket/a.png", "remote_image"),
        ("file:///etc/passwd", "outside_root"),
        ("file://..%2Fa.png", "outside_root"),
        ("../a.png", "outside_root"),
        ("a\0.png", "missing_image"),
        ("a" * 9000, "missing_image"),
        ("gone.png", "missing_image"),
        ("data:image/png;base64", "undecodable_image"),
        ("data:image/png;base64,$$$$", "undecodable_image"),
        ("data:image/png;base64," + "A" * 70_000_000, "too_many_bytes"),
        ({"url": {"url": {"url": "a.png"}}}, "bad_json"),
        ({}, "outside_root"),
        (7, "outside_root"),
    ],
)
def test_images_that_are_elsewhere_or_broken_say_so(tmp_path, found, expected):
    assert reason(image_bytes, found, tmp_path) == expected


def test_an_object_nested_without_end_is_refused(tmp_path):
    deep = json.loads('{"url":' * 500 + '"a.png"' + "}" * 500)
    assert reason(image_bytes, deep, tmp_path) == "bad_json"
