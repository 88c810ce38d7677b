"""The token for videos is no image token: with one, vLLM dies while it measures memory."""

import json

import pytest
from transformers import AutoTokenizer, InternVLForConditionalGeneration

from fcot.export.folder import write_export
from fcot.export.origin import Origin
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tokens import CONTEXT, END, START
from fcot.internvl.video_token import video_token
from fcot.models.student_folder import save_student

TEXT = f"<|im_start|>user\n{START}{CONTEXT}{END} two <quad>1</quad>?<|im_end|>"


@pytest.fixture(params=["written by convert", "loaded and saved again"])
def old(request, student_folder, tmp_path):
    """A student as it was made from a folder that fcot 0.1.0 converted."""
    folder = tmp_path / "old"
    model = ModelFolder(student_folder)
    save_student(InternVLForConditionalGeneration(model.config), folder, student_folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"video_token": CONTEXT}
    if request.param != "written by convert":
        names = ("context_image_token", "end_image_token", "start_image_token", "video_token")
        settings["model_specific_special_tokens"] = {name: settings[name] for name in names}
    file.write_text(json.dumps(settings))
    assert AutoTokenizer.from_pretrained(folder).video_token == CONTEXT
    return ModelFolder(folder)


def test_the_better_one_of_a_vocabulary_is_taken():
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    assert video_token({"<quad>", "<video>", "<pad>"}, named) == "<video>"
    assert video_token({"<pad>", "<quad>", "</quad>", CONTEXT}, named) == "<quad>"
    assert video_token({"<pad>", "<unk>", CONTEXT}, named) == "<pad>"
    assert video_token({"</s>", "<unk>", CONTEXT}, {**named, "pad_token": "</s>"}) == "<unk>"


def test_an_old_folder_is_mended_when_it_is_loaded(old):
    untouched = AutoTokenizer.from_pretrained(old.path)
    assert (old.tokenizer.video_token, len(old.tokenizer)) == ("<|endoftext|>", len(untouched))
    assert old.tokenizer(TEXT).input_ids == untouched(TEXT).input_ids


def test_what_is_saved_or_exported_from_an_old_folder_is_mended(old, tmp_path):
    save_student(InternVLForConditionalGeneration(old.config), tmp_path / "again", old.path)
    (tmp_path / "exported").mkdir()
    write_export(old, tmp_path / "exported", Origin(None, [], None, []), "exported")
    old.tokenizer.save_pretrained(tmp_path / "tokenizer")
    for name in ("again", "exported", "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        assert tokenizer.video_token == "<|endoftext|>", name
        assert tokenizer.context_image_token == CONTEXT, name
