"""The student's processor cuts and counts as training does, and as transformers' own does."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.internvl.tiling import cut
from fcot.models.image_processor import CompressedInternVLImageProcessor
from fcot.models.processor import CompressedInternVLProcessor

SETTINGS = {
    "size": {"height": 56, "width": 56},
    "max_patches": 6,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.1],
}
CONTEXT = "<IMG_CONTEXT>"


def page(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def processor(tiny_checkpoint):
    return CompressedInternVLProcessor(
        CompressedInternVLImageProcessor(**SETTINGS), ModelFolder(tiny_checkpoint).tokenizer, image_seq_length=2
    )


@pytest.mark.parametrize("size", [(56, 56), (90, 40), (130, 170), (30, 200)])
def test_tiles_are_trainings_bit_for_bit_and_transformers_up_to_rounding(processor, size):
    found = processor.image_processor(page(*size), return_tensors="pt")
    mean, std = torch.tensor(SETTINGS["image_mean"]), torch.tensor(SETTINGS["image_std"])
    assert torch.equal(found["pixel_values"], normalize(cut(page(*size), 6, tile_size=56), mean, std))
    theirs = GotOcr2ImageProcessorPil(**SETTINGS, crop_to_patches=True)(page(*size), return_tensors="pt")
    assert found["num_patches"].tolist() == theirs["num_patches"].tolist()
    torch.testing.assert_close(found["pixel_values"], theirs["pixel_values"], rtol=0, atol=1e-5)
    assert processor.image_processor.get_number_of_image_patches(*size[::-1]) == found["num_patches"].item()


def test_each_page_gets_the_placeholders_of_its_tiles(processor):
    pages = [page(56, 56), page(112, 56), page(168, 112)]
    texts = [f"{CONTEXT}\nfirst {CONTEXT} second", f"{CONTEXT} third"]
    found = processor(images=[pages[:2], pages[2:]], text=texts, return_tensors="pt")
    assert found["pixel_values"].shape == (1 + 3 + 7, 3, 56, 56)
    assert (found["input_ids"] == processor.image_token_id).sum(1).tolist() == [2 * (1 + 3), 2 * 7]
    assert not found["attention_mask"][0, 0] or not found["attention_mask"][1, 0]
    assert found["attention_mask"][:, -1].all()


def test_the_most_tiles_can_be_set_for_one_call(processor):
    found = processor(images=page(168, 112), text=CONTEXT, max_patches=2, return_tensors="pt")
    assert found["pixel_values"].shape[0] == 3
    assert processor(images=page(168, 112), text=CONTEXT, crop_to_patches=False)["pixel_values"].shape[0] == 1


def test_internvls_own_placeholder_is_taken_too(processor):
    ours = processor(images=page(56, 56), text=f"{CONTEXT}\nWhat?")
    assert processor(images=page(56, 56), text="<image>\nWhat?")["input_ids"] == ours["input_ids"]
    assert processor(text="an <image> tag")["input_ids"] == [processor.tokenizer("an <image> tag").input_ids]


def as_array(kind):
    """A page as a script may have it, and as the picture that it is of."""
    colours = np.random.default_rng(7).integers(0, 256, (60, 90, 4), dtype=np.uint8)
    grey = colours[..., 0]
    return {
        "grey": (grey, Image.fromarray(grey)),
        "grey, one channel": (grey[..., None], Image.fromarray(grey)),
        "grey, channel first": (torch.from_numpy(grey)[None], Image.fromarray(grey)),
        "colours": (colours[..., :3], Image.fromarray(colours[..., :3])),
        "colours first": (colours[..., :3].transpose(2, 0, 1), Image.fromarray(colours[..., :3])),
        "with opacity": (colours, Image.fromarray(colours)),
        "fractions": (colours[..., :3] / 255, Image.fromarray(colours[..., :3])),
        "grey fractions": (torch.from_numpy(grey) / 255, Image.fromarray(grey)),
        "black and white": (grey > 99, Image.fromarray((grey > 99).astype(np.uint8) * 255)),
        "whole numbers": (grey.astype(np.int64), Image.fromarray(grey)),
        "whole floats": (grey.astype(np.float32), Image.fromarray(grey)),
    }[kind]


ARRAYS = ("grey", "grey, one channel", "grey, channel first", "colours", "colours first", "with opacity", "fractions")
ARRAYS += ("grey fractions", "black and white", "whole numbers", "whole floats")


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_is_the_page_that_it_shows(processor, kind):
    array, picture = as_array(kind)
    expected = processor.image_processor(picture, return_tensors="pt")["pixel_values"]
    for images in (array, [array], [[array]], array[None] if array.ndim == 3 else [array]):
        found = processor.image_processor(images, return_tensors="pt")
        assert torch.equal(found["pixel_values"], expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((60, 90, 2), np.uint8), r"shape \(60, 90, 2\)"),
        (np.zeros((5, 60, 90), np.uint8), r"shape \(5, 60, 90\)"),
        (np.zeros(60, np.uint8), r"shape \(60,\)"),
        (np.zeros((0, 90), np.uint8), r"shape \(0, 90\)"),
        (np.full((60, 90), -1.5), "pixel values from -1.5 to -1.5"),
        (np.full((60, 90), 1.5), "pixel values from 1.5 to 1.5"),
        (np.full((60, 90), np.nan), "pixel values from nan"),
        (np.full((60, 90), 65535, np.uint16), "pixel values from 65535"),
        (np.zeros((60, 90), complex), "complex128"),
        ([], "no page"),
    ],
)
def test_an_array_that_is_no_page_is_refused(processor, array, message):
    with pytest.raises(ValueError, match=message):
        processor.image_processor(array)


def test_a_truncation_never_cuts_visual_tokens(processor):
    text, pages = f"{CONTEXT}\nWhat is the total of this page?", [page(168, 112)]
    whole = processor(images=pages, text=text)["input_ids"][0]
    assert whole.count(processor.image_token_id) == 14
    with pytest.raises(ValueError, match="Text 0 has 14 visual tokens, and truncated to 10 tokens it keeps 9 of them"):
        processor(images=pages, text=text, truncation=True, max_length=10)
    with pytest.raises(ValueError, match="truncated to 15 tokens it keeps 14 of them"):  # the closing tag is one
        processor(images=pages, text=text, truncation=True, max_length=15, return_tensors="pt")
    with pytest.raises(ValueError, match="Text 1 has 14 visual tokens"):
        kwargs = {"truncation": True, "max_length": 30}
        processor(images=[[], pages], text=["No page?", "So " * 30 + text], text_kwargs=kwargs)
    cut_behind = processor(images=pages, text=text, truncation=True, max_length=20)["input_ids"][0]
    assert cut_behind == whole[:20]
    assert processor(text="What is it?", truncation=True, max_length=4)["input_ids"] == [
        processor.tokenizer("What is it?").input_ids[:4]
    ]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"text": CONTEXT}, "1 image placeholders and 0 images"),
        ({"text": "What?", "images": [page(56, 56)]}, "0 image placeholders and 1 images"),
        ({"images": [page(56, 56)]}, "Give text="),
        ({"text": "What?", "videos": [1]}, "reads text and images"),
    ],
)
def test_what_does_not_fit_is_refused(processor, inputs, message):
    with pytest.raises(ValueError, match=message):
        processor(**inputs)
