import json

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig

from fcot.convert.native import convert_to_native
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.internvl.prompts import template
from fcot.internvl.tiling import cut
from fcot.internvl.tokens import CONTEXT


@pytest.fixture(scope="module")
def native(original_with_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native") / "model"
    convert_to_native(original_with_tokenizer, folder)
    return folder


def test_everything_a_user_needs_is_in_the_folder_and_no_code(native):
    names = {file.name for file in native.iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "video_preprocessor_config.json",
    }
    for file in native.glob("*.json"):
        assert "auto_map" not in file.read_text(), file


def test_the_placeholder_and_its_count_agree_everywhere(native):
    config, tokenizer = ModelFolder(native).config, AutoTokenizer.from_pretrained(native)
    processor = json.loads((native / "processor_config.json").read_text())
    assert config.image_token_id == tokenizer.context_image_token_id == tokenizer.convert_tokens_to_ids(CONTEXT) == 908
    assert config.image_seq_length == processor["image_seq_length"] == 4
    assert (tokenizer.start_image_token, tokenizer.end_image_token) == ("<img>", "</img>")
    assert len(tokenizer) == config.text_config.vocab_size == 915  # nothing was added


def test_the_video_token_is_no_image_token(native):
    tokenizer = AutoTokenizer.from_pretrained(native)
    assert (tokenizer.video_token, tokenizer.video_token_id) == ("<quad>", 909)
    assert native.joinpath("tokenizer_config.json").read_text().count(CONTEXT) == 1


def test_the_chat_template_gives_the_originals_prompts(native):
    tokenizer, kind = AutoTokenizer.from_pretrained(native), template("internlm2-chat")
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is the total?"}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "42"}]}
    follow_up = {"role": "user", "content": "And the tax?"}
    prompt = tokenizer.apply_chat_template([question, answer, follow_up], tokenize=False, add_generation_prompt=True)
    segments = kind.segments([f"{CONTEXT}\nWhat is the total?", "And the tax?"], ["42"])
    assert prompt == "".join(segment.text for segment in segments)
    assert kind.system in prompt
    assert "<|im_end|>\n" not in prompt


def test_generation_stops_at_the_templates_end(native, original_with_tokenizer, tmp_path):
    end = AutoTokenizer.from_pretrained(native).convert_tokens_to_ids("<|im_end|>")
    assert GenerationConfig.from_pretrained(native).eos_token_id == end
    given = {
        "_from_model_config": True,
        "eos_token_id": [904, 905],
        "transformers_version": "4.37.2",
        "temperature": 0.5,
    }
    published = tmp_path / "published"
    published.mkdir()
    for file in original_with_tokenizer.iterdir():
        (published / file.name).symlink_to(file)
    (published / "generation_config.json").write_text(json.dumps(given))
    convert_to_native(published, tmp_path / "native")
    stops = GenerationConfig.from_pretrained(tmp_path / "native")
    assert (stops.eos_token_id, stops.temperature, stops.pad_token_id) == ([904, 905], 0.5, 2)


def test_pages_are_cut_and_coloured_as_the_original_does(native):
    page = Image.effect_noise((120, 60), 60).convert("RGB")
    processor = AutoImageProcessor.from_pretrained(native)
    tiles = processor(page, return_tensors="pt")["pixel_values"]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = normalize(cut(page, 12, tile_size=56), mean, std)
    assert len(tiles) == len(expected) == 3
    torch.testing.assert_close(tiles, expected, rtol=0, atol=1e-5)


def test_fcot_reads_the_folder_like_any_other(native):
    folder = ModelFolder(native)
    encoded = folder.encoder(500).encode(
        [{"from": "human", "value": "<image>\nWas ist 多少?"}, {"from": "gpt", "value": "zwölf 十二"}], [2]
    )
    assert encoded.ids[0] == 1  # <s>, as InternLM2 was trained
    learned = encoded.ids[encoded.labels >= 0]
    assert folder.tokenizer.decode(learned, skip_special_tokens=True) == "zwölf 十二"
    assert learned[-1] == folder.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_folder_without_tokenizer_gives_the_model_alone_and_says_so(make_original, tmp_path):
    done = convert_to_native(make_original("internlm2"), tmp_path / "model", 50)
    assert {file.name for file in done.folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert "no tokenizer files" in done.notes[0]
    assert json.loads((done.folder / "config.json").read_text())["image_token_id"] == 50
    without = convert_to_native(make_original("internlm2"), tmp_path / "nothing")
    assert "--image-token-id" in without.notes[1]
