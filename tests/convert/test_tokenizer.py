import json

import pytest
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, Qwen2Tokenizer

from fcot.convert.internlm2 import INTERNLM2
from fcot.convert.llama import LLAMA
from fcot.convert.qwen2 import QWEN2
from fcot.convert.tokenizer import load_tokenizer
from fcot.errors import UserError

TEXT = "<|im_start|>user\n<img><IMG_CONTEXT></img> Wie, 多少  is it?<|im_end|>"


@pytest.fixture
def qwen2_folder(tmp_path):
    """A byte-level tokenizer as InternVL2-1B has it: a vocabulary, merges, and a list of added tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "is", "Ġi", "Ġis"])}
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    added = {str(number): {"content": token, "special": True} for number, token in enumerate(specials, len(vocabulary))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\ni s\nĠ i\nĠi s\n")
    settings = {"added_tokens_decoder": added, "tokenizer_class": "Qwen2Tokenizer"}
    settings |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_a_byte_level_tokenizer_keeps_its_ids(qwen2_folder, tmp_path):
    expected = Qwen2Tokenizer.from_pretrained(qwen2_folder)
    load_tokenizer(qwen2_folder, QWEN2).save_pretrained(tmp_path / "native")
    fast = AutoTokenizer.from_pretrained(tmp_path / "native")
    assert fast(TEXT).input_ids == expected(TEXT).input_ids
    assert fast.decode(fast(TEXT).input_ids) == TEXT
    assert (fast.eos_token, fast.pad_token, fast.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    assert fast.context_image_token_id == 264


def test_a_fast_tokenizer_is_taken_as_it_is(qwen2_folder, tmp_path):
    expected = load_tokenizer(qwen2_folder, QWEN2)
    expected.save_pretrained(tmp_path / "fast")
    fast = load_tokenizer(tmp_path / "fast", LLAMA)
    assert fast(TEXT) == expected(TEXT)
    assert fast.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()


def test_lists_that_disagree_on_an_id_are_refused(qwen2_folder):
    file = qwen2_folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["added_tokens_decoder"]["300"] = settings["added_tokens_decoder"].pop("264")
    file.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"'<IMG_CONTEXT>' has id 264 by the vocabulary and 300 by the list"):
        load_tokenizer(qwen2_folder, QWEN2)


def test_a_tokenizer_without_image_tokens_is_refused(qwen2_folder):
    file = qwen2_folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["added_tokens_decoder"]["264"]
    file.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"has no token '<IMG_CONTEXT>'"):
        load_tokenizer(qwen2_folder, QWEN2)


def test_an_older_list_of_added_tokens_is_read(fixture_tokenizer, tmp_path):
    expected = load_tokenizer(fixture_tokenizer, INTERNLM2)
    for name in ("tokenizer.model", "added_tokens.json", "special_tokens_map.json"):
        (tmp_path / name).write_bytes((fixture_tokenizer / name).read_bytes())
    fast = load_tokenizer(tmp_path, INTERNLM2)
    assert fast(TEXT) == expected(TEXT)
    assert fast.decode(fast(TEXT).input_ids) == expected.decode(expected(TEXT).input_ids)


@pytest.mark.parametrize(("bos", "eos"), [(False, False), (False, True), (True, True)])
def test_start_and_end_are_added_as_the_settings_say(fixture_tokenizer, tmp_path, bos, eos):
    settings = json.loads((fixture_tokenizer / "tokenizer_config.json").read_text())
    settings |= {"add_bos_token": bos, "add_eos_token": eos}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "tokenizer.model").write_bytes((fixture_tokenizer / "tokenizer.model").read_bytes())
    load_tokenizer(tmp_path, INTERNLM2).save_pretrained(tmp_path / "native")
    fast = AutoTokenizer.from_pretrained(tmp_path / "native")
    assert fast("x").input_ids == [*[1] * bos, 840, *[2] * eos]


@pytest.mark.parametrize("content", [b"", b"not a sentencepiece model at all"])
def test_a_broken_sentencepiece_model_is_named(fixture_tokenizer, tmp_path, content):
    (tmp_path / "tokenizer_config.json").write_bytes((fixture_tokenizer / "tokenizer_config.json").read_bytes())
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.model (is not a sentencepiece model|holds no pieces)"):
        load_tokenizer(tmp_path, INTERNLM2)
