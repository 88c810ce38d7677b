import json
import shutil

import pytest
from transformers import AutoImageProcessor

from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def said(path):
    with pytest.raises(UserError) as caught:
        ModelFolder(path)
    assert len(str(caught.value).splitlines()) <= 5  # with "error: " before it, a few lines on a terminal
    return str(caught.value)


def test_a_missing_folder_is_answered_with_the_command_that_gets_it(tmp_path):
    message = said(tmp_path / "InternVL2-8B")
    assert f"no model folder at '{tmp_path / 'InternVL2-8B'}'" in message
    assert f"hf download OpenGVLab/InternVL2-8B --local-dir {tmp_path / 'InternVL2-8B'}" in message


def test_a_misspelled_folder_is_answered_with_the_nearest_beside_it(copy):
    message = said(copy.with_name("copi"))
    assert "Did you mean 'copy'?" in message
    assert "download" not in message and "--model" not in message


def test_a_student_that_is_not_there_yet_is_not_to_be_downloaded(tmp_path):
    message = said(tmp_path / "realign_8b" / "student")
    assert "download" not in message
    assert f"whose run folder is {tmp_path / 'realign_8b'}" in message


def test_a_folder_without_tokenizer_says_so_when_it_is_needed(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"copy has no tokenizer \(tokenizer.json or tokenizer.model\)"):
        ModelFolder(copy).encoder()


def test_a_tokenizer_of_another_model_is_refused_where_pages_would_not_be_seen(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"image_token_id": 3}))
    with pytest.raises(UserError, match=r"<IMG_CONTEXT> is token \d+ by the tokenizer and 3 by config.json"):
        ModelFolder(copy).encoder()


def test_code_of_the_folder_is_never_run_and_never_asked_about(copy, tiny_checkpoint):
    (copy / "tokenization_own.py").write_text("raise SystemExit('code of the folder was run')")
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}}
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    assert ModelFolder(copy).tokenizer("ab") == ModelFolder(tiny_checkpoint).tokenizer("ab")  # by tokenizer.json


def test_a_broken_tokenizer_is_named(copy):
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"The tokenizer of .*copy cannot be loaded"):
        _ = ModelFolder(copy).tokenizer


def test_a_folder_without_configuration_is_no_model_folder(tmp_path):
    assert "no config.json in it" in said(tmp_path)


@pytest.mark.parametrize("kind", ["qwen2", "internvl_chat", None])
def test_another_model_is_refused_by_its_type(copy, kind):
    (copy / "config.json").write_text(json.dumps({"model_type": kind}))
    message = said(copy)
    assert str(copy / "config.json") in message
    assert repr(kind) in message


@pytest.mark.parametrize("content", ["{", "", '{"model_type": ', "[1]"])
def test_a_broken_configuration_names_the_file(copy, content):
    (copy / "config.json").write_text(content)
    message = said(copy)
    assert str(copy / "config.json") in message
    assert "Fetch the file again" in message


def test_missing_preprocessing_names_both_files_it_may_be_in(copy):
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"neither preprocessor_config\.json nor 'image_processor' in processor_config"):
        _ = ModelFolder(copy).preprocessing


@pytest.mark.parametrize("also_old", [False, True])
def test_image_settings_that_transformers_5_saved_are_found_where_it_finds_them(copy, nest, also_old):
    settings = nest(copy, max_patches=3)
    if also_old:
        (copy / "preprocessor_config.json").write_text(json.dumps({**settings, "max_patches": 9}))
    assert ModelFolder(copy).preprocessing == settings
    assert ModelFolder(copy).max_tiles == AutoImageProcessor.from_pretrained(copy).max_patches == 3


def test_a_folder_tells_tiles_tokens_and_template(copy):
    folder = ModelFolder(copy)
    assert (folder.tile_size, folder.max_tiles) == (56, 6)
    encoder = folder.encoder()
    assert encoder.max_length == folder.config.text_config.max_position_embeddings
    assert encoder.teacher_tokens_per_tile == folder.config.image_seq_length == 4
    assert folder.encoder(77).max_length == 77
    assert folder.template.system == ""


def test_a_folder_that_names_no_template_gets_the_native_models(copy):
    config = json.loads((copy / "config.json").read_text())
    del config["template"], config["system_message"]
    (copy / "config.json").write_text(json.dumps(config))
    assert ModelFolder(copy).template.separator == "\n"  # InternVL2.5's and later: the ones with a native layout
