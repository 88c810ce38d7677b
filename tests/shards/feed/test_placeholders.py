import pytest

from fcot.errors import SampleError
from shards.feed.placeholders import understood

PAD = "<|image_pad|>"


@pytest.mark.parametrize(
    ("question", "images", "expected"),
    [
        ("<image>\nTotal?", 1, "<image>\nTotal?"),
        ("<img src=x> <IMG> <images> <|im_end|>", 0, "<img src=x> <IMG> <images> <|im_end|>"),
        (f"{PAD}\nTotal?", 1, "<image>\nTotal?"),
        (f"<|vision_start|>{PAD}<|vision_end|>Total?", 1, "<image>Total?"),
        (f"<|vision_start|>{PAD * 9}<|vision_end|>Total?", 1, "<image>Total?"),
        ("<|vision_start|><image><|vision_end|>Total?", 1, "<image>Total?"),
        ("<im_start><image><im_end>\nTotal?", 1, "<image>\nTotal?"),
        ("(<image>./</image>)\nTotal?", 1, "<image>\nTotal?"),
        ("<image1> or <image2>?", 2, "<image> or <image>?"),
        ("<image 1> or <image 2>?", 2, "<image> or <image>?"),
        ("<|image_1|>\n<|image_2|>\nWhich?", 2, "<image>\n<image>\nWhich?"),
        ("<image0> or <image1>?", 2, "<image> or <image>?"),
        ("<ImageHere>Total?", 1, "<image>Total?"),
        ("<start_of_image>Total?", 1, "<image>Total?"),
        ("[IMG]Total?", 1, "<image>Total?"),
    ],
)
def test_where_the_meaning_is_plain_it_is_understood(question, images, expected):
    assert understood([question], images) == [expected]


@pytest.mark.parametrize(
    ("question", "images", "named"),
    [
        (PAD, 0, PAD),
        (PAD, 2, PAD),
        ("<image2> or <image1>?", 2, "<image2>"),
        ("<image1> and again <image1>", 2, "<image1>"),
        ("<image>\n<image>\nIs <image1> larger?", 2, "<image1>"),
        ("<image>\n<image1>", 2, "<image1>"),
        ("<|vision_start|>Total?", 1, "<|vision_start|>"),
    ],
)
def test_where_it_is_not_it_is_refused_by_name(question, images, named):
    with pytest.raises(SampleError) as caught:
        understood([question], images)
    assert caught.value.reason == "foreign_placeholder"
    assert str(caught.value).startswith(repr(named))


@pytest.mark.parametrize("token", ["<video>", "<audio>", "<|video_pad|>", "<|AUDIO|>", "<|audio_bos|>", "<speech>"])
def test_a_video_or_a_sound_is_refused(token):
    with pytest.raises(SampleError, match="stands for a video or a sound") as caught:
        understood(["<image>", f"{token}\nWhat happens?"], 1)
    assert caught.value.reason == "unsupported_media"


def test_placeholders_of_several_turns_count_together():
    assert understood(["<image1>?", "And <image2>?"], 2) == ["<image>?", "And <image>?"]
