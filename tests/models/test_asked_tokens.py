"""An elastic student is asked for visual tokens by image or by request: in its processor, generate, chat and export."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import cut
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.serve.dialogue import Dialogue

IMAGE = "<IMG_CONTEXT>"


@pytest.fixture(scope="module")
def exported(tiny_checkpoint, tmp_path_factory):
    """An exported student that gives a tile 4, 2 or 1 visual tokens, of weights so wide that they matter."""
    folder = tmp_path_factory.mktemp("elastic")
    torch.manual_seed(1)
    pair = StudentTeacher(tiny_checkpoint, StudentSpec("conv", 2, keep_positions=True, ratios=(2, 4)))
    with torch.no_grad():
        for parameter in pair.student.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    save_student(pair.student, folder / "student", tiny_checkpoint)
    main(["export", str(folder / "student"), str(folder / "exported")])
    return folder / "exported"


@pytest.fixture(scope="module")
def processor(exported):
    return AutoProcessor.from_pretrained(exported)


@pytest.fixture(scope="module")
def model(exported):
    return load_student(exported).eval()


def page(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


ONE, THREE, SEVEN = page(56, 56), page(112, 56), page(168, 112)  # tiles of each
TEXTS = (f"{IMAGE} first {IMAGE} second", f"{IMAGE} third")


def test_tokens_are_asked_of_all_pages_or_of_each(processor):
    def counts(**asked):
        found = processor([[ONE, THREE], [SEVEN]], list(TEXTS), return_tensors="pt", **asked)
        placeholders = (found["input_ids"] == processor.image_token_id).sum(1).tolist()
        assert placeholders == [int(found["tile_tokens"][:4].sum()), int(found["tile_tokens"][4:].sum())]
        return found["tile_tokens"].tolist()

    assert counts() == [2] * 11
    assert counts(visual_tokens=4) == [4] * 11
    assert counts(visual_tokens=[4, 2, 1]) == [4] + [2] * 3 + [1] * 7
    assert counts(budget=16) == [4] * 4 + [2] * 7  # each text has a budget, whatever is in the batch
    assert counts(budget=15) == [2] * 11


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"visual_tokens": 3}, "visual_tokens is 3"),
        ({"visual_tokens": "auto"}, "no router"),
        ({"visual_tokens": [4, 4]}, "2 numbers for 1 pages"),
        ({"budget": 6}, "7 tiles have at least 7 visual tokens"),
        ({"budget": 20, "visual_tokens": 2}, "Both visual_tokens and budget"),
    ],
)
def test_what_it_cannot_give_is_refused(processor, asked, said):
    with pytest.raises(UserError, match=said):
        processor(SEVEN, TEXTS[1], **asked)


def test_a_student_of_one_ratio_is_asked_for_nothing_else(tiny_checkpoint, student_folder):
    config = ModelFolder(student_folder).config
    assert TokenCounts(config, 2)(torch.zeros(3, 3, 56, 56)).tolist() == [2, 2, 2]
    for asked in ((4,), (None, 100)):
        with pytest.raises(UserError, match="this model gives every tile 2"):
            TokenCounts(config, *asked)


def test_generate_lays_out_anew_what_the_processor_would(processor, model):
    images = [[ONE, THREE], [SEVEN]]
    first = processor(images, list(TEXTS), return_tensors="pt")
    for asked in ({"visual_tokens": 4}, {"visual_tokens": 1}, {"budget": 16}):
        given = processor(images, list(TEXTS), return_tensors="pt", **asked)
        expected = model.generate(**given, max_new_tokens=5, pad_token_id=0)
        found = model.generate(**first, **asked, max_new_tokens=5, pad_token_id=0)
        shown = given["attention_mask"].bool()
        assert torch.equal(found[:, : shown.shape[1]][shown], given["input_ids"][shown])
        assert torch.equal(found[:, shown.shape[1] :], expected[:, shown.shape[1] :])
    text = processor(text="No page", return_tensors="pt")
    assert torch.equal(
        model.generate(**text, max_new_tokens=3), model.generate(**text, max_new_tokens=3, visual_tokens=1)
    )


@pytest.mark.parametrize("count", [4, 1])
def test_a_second_turn_goes_on_from_the_cache(processor, model, count):
    given = processor(SEVEN, TEXTS[1], visual_tokens=count, return_tensors="pt")
    tiles, steps = given["tile_tokens"], {"max_new_tokens": 4, "pad_token_id": 0, "return_dict_in_generate": True}
    first = model.generate(**given, **steps)
    talk = torch.cat([first.sequences, torch.tensor([[71, 72, 73]])], 1)
    said = {"input_ids": talk, "attention_mask": torch.ones_like(talk), "tile_tokens": tiles, "output_logits": True}
    anew = model.generate(**said, **steps, pixel_values=given["pixel_values"]).logits
    torch.testing.assert_close(model.generate(**said, **steps, past_key_values=first.past_key_values).logits, anew)


def test_prompts_for_other_numbers_are_refused(processor, model):
    given = processor(SEVEN, TEXTS[1], visual_tokens=4, return_tensors="pt")
    del given["tile_tokens"]
    for call in (model, model.generate):
        with pytest.raises(UserError, match="28 image placeholders, and their tiles 14 visual tokens"):
            call(**given)


def test_a_conversation_takes_them_too(processor, tmp_path):
    SEVEN.save(tmp_path / "page.png")
    page = {"type": "image", "path": str(tmp_path / "page.png")}
    talk = [{"role": "user", "content": [page, {"type": "text", "text": "What?"}]}]
    asked = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "processor_kwargs": {"visual_tokens": 1}}
    assert processor.apply_chat_template([talk], **asked)["tile_tokens"].tolist() == [1] * 7


def test_a_request_is_answered_the_same_in_any_batch(processor, model):
    together = processor([[ONE, THREE], [SEVEN]], list(TEXTS), budget=16, return_tensors="pt")
    new = model.generate(**together, max_new_tokens=5)[:, together["input_ids"].shape[1] :]
    for images, text, expected in zip(([ONE, THREE], [SEVEN]), TEXTS, new, strict=True):
        alone = processor(images, text, budget=16, return_tensors="pt")
        assert torch.equal(model.generate(**alone, max_new_tokens=5)[0, alone["input_ids"].shape[1] :], expected)


def test_chat_answers_every_turn_with_what_was_asked(exported, processor, model):
    folder, tiles = ModelFolder(exported), cut(SEVEN, 6, tile_size=56)
    answers = set()
    for asked, count in (({}, 2), ({"visual_tokens": 4}, 4), ({"budget": 7}, 1)):
        dialogue = Dialogue(folder, [tiles], **asked)
        talk = "<|im_start|>user\n<image>\n"
        for question in ("What?", "And then?"):
            talk += f"{question}<|im_end|><|im_start|>assistant\n"
            given = processor(SEVEN, talk, return_tensors="pt", add_special_tokens=False, visual_tokens=count)
            new = model.generate(**given, max_new_tokens=6)[0, given["input_ids"].shape[1] :]
            expected = processor.tokenizer.decode(new, skip_special_tokens=True)
            assert dialogue.ask(question, max_new_tokens=6) == expected
            talk += f"{expected}<|im_end|><|im_start|>user\n"
        assert dialogue.visual_tokens == [7 * count]
        answers.add(talk)
    assert len(answers) > 1


def test_chat_says_tiles_ratio_and_tokens(exported, tmp_path, capsys):
    SEVEN.save(tmp_path / "page.png")
    words = ["chat", str(exported), "--image", str(tmp_path / "page.png"), "--question", "What?"]
    main([*words, "--max_new_tokens", "2", "--max_tiles", "6", "--visual_tokens", "4"])
    said = capsys.readouterr().out
    assert "4 visual tokens a tile (ratio 1)" in said and "page.png: 7 tiles, 28 visual tokens" in said
    main([*words, "--max_new_tokens", "2", "--max_tiles", "6", "--budget", "7"])
    said = capsys.readouterr().out
    assert "1 visual tokens a tile (ratio 4)" in said and "7 tiles, 7 visual tokens instead of 28" in said


WITHOUT_FCOT = """\
import sys
sys.modules["fcot"] = None  # any import of it fails
import json
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
for count in (4, 2, 1):
    given = processor(Image.open(sys.argv[2]), "<IMG_CONTEXT> third", visual_tokens=count, return_tensors="pt")
    print(json.dumps(model(**given).logits[0, -1].tolist()))
"""


@pytest.mark.slow
@torch.no_grad()
def test_an_exported_student_gives_what_is_asked_without_fcot(exported, processor, model, tmp_path):
    SEVEN.save(tmp_path / "page.png")
    words = [sys.executable, "-c", WITHOUT_FCOT, str(exported), str(tmp_path / "page.png")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for count, line in zip((4, 2, 1), done.stdout.splitlines()[-3:], strict=True):
        given = processor(SEVEN, TEXTS[1], visual_tokens=count, return_tensors="pt")
        assert torch.equal(model(**given).logits[0, -1], torch.tensor(json.loads(line)))
