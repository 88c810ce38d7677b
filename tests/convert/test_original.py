import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from fcot.convert.internlm2 import INTERNLM2
from fcot.convert.native import convert_to_native
from fcot.convert.original import convert_to_original
from fcot.convert.tokenizer import load_tokenizer
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder


def same(found, expected):
    return found.keys() == expected.keys() and all(
        tensor.dtype == expected[name].dtype and torch.equal(tensor.view(torch.uint8), expected[name].view(torch.uint8))
        for name, tensor in found.items()
    )


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("internlm2", {"shards": 3, "dtype": torch.bfloat16, "num_key_value_heads": 1}),
        ("internlm2", {"bias": True, "pickled": True, "tie_word_embeddings": True}),
        ("internlm2", {"vision": {"qk_normalization": True, "norm_type": "rms_norm", "qkv_bias": False}}),
        ("qwen2", {"tie_word_embeddings": True, "dtype": torch.float16}),
        ("llama", {"attention_bias": True, "shards": 2, "pickled": True}),
    ],
    ids=str,
)
def test_the_way_back_gives_every_name_and_byte(make_original, read_weights, tmp_path, family, options):
    source = make_original(family, **options)
    convert_to_native(source, tmp_path / "native", 50)
    convert_to_original(tmp_path / "native", tmp_path / "back")
    assert same(read_weights(tmp_path / "back"), read_weights(source))


def test_the_fixtures_configuration_comes_back(fixture_original, read_weights, tmp_path):
    convert_to_native(fixture_original, tmp_path / "native", 317)
    convert_to_original(tmp_path / "native", tmp_path / "back")
    expected = json.loads((fixture_original / "config.json").read_text())
    found = json.loads((tmp_path / "back" / "config.json").read_text())
    free = {"torch_dtype", "use_flash_attn", "attention_dropout", "mlp_bias"}  # the fixture leaves them to its code
    for key in ("vision_config", "llm_config"):
        part, known = found.pop(key), expected[key]
        assert {name: value for name, value in part.items() if name not in free} == {
            name: known[name] for name in part if name not in free
        }
    assert {name: found[name] for name in found if name not in free} == {
        name: expected[name] for name in found if name not in free
    }
    assert same(read_weights(tmp_path / "back"), load_file(fixture_original / "model.safetensors"))


def test_rope_scaling_and_a_tied_head_come_back(make_original, tmp_path):
    scaling = {"type": "dynamic", "factor": 2.0}
    source = make_original("internlm2", rope_scaling=scaling, tie_word_embeddings=True)
    convert_to_native(source, tmp_path / "native", 50)
    convert_to_original(tmp_path / "native", tmp_path / "back")
    llm = json.loads((tmp_path / "back" / "config.json").read_text())["llm_config"]
    assert (llm["rope_scaling"], llm["tie_word_embeddings"], llm["rope_theta"]) == (scaling, True, 1000000.0)


def test_a_tied_head_that_is_written_out_comes_back_too(make_original, read_weights, tmp_path):
    source = make_original("internlm2", tie_word_embeddings=True)
    weights = load_file(source / "model.safetensors")
    weights["language_model.output.weight"] = weights["language_model.model.tok_embeddings.weight"].clone()
    save_file(weights, source / "model.safetensors")
    convert_to_native(source, tmp_path / "native", 50)
    convert_to_original(tmp_path / "native", tmp_path / "back")
    assert same(read_weights(tmp_path / "back"), weights)


def test_a_model_saved_by_transformers_goes_back(fixture_original, read_weights, tmp_path):
    convert_to_native(fixture_original, tmp_path / "native", 317)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "native")
    model.save_pretrained(tmp_path / "saved", max_shard_size="100KB")
    convert_to_original(tmp_path / "saved", tmp_path / "back")
    assert same(read_weights(tmp_path / "back"), load_file(fixture_original / "model.safetensors"))


def test_the_tiny_teacher_goes_there_and_back(tiny_checkpoint, tmp_path):
    convert_to_original(tiny_checkpoint, tmp_path / "original")
    convert_to_native(tmp_path / "original", tmp_path / "native")
    before, after = (AutoModelForImageTextToText.from_pretrained(f) for f in (tiny_checkpoint, tmp_path / "native"))
    assert same(after.state_dict(), before.state_dict())
    for name in ("image_token_id", "image_seq_length", "template", "system_message", "tie_word_embeddings"):
        assert getattr(after.config, name) == getattr(before.config, name)
    settings = [
        json.loads((folder / "preprocessor_config.json").read_text())
        for folder in (tiny_checkpoint, tmp_path / "native")
    ]
    assert settings[0].items() <= settings[1].items()


def test_image_settings_that_transformers_5_saved_go_along(tiny_checkpoint, nest, tmp_path):
    source = shutil.copytree(tiny_checkpoint, tmp_path / "saved")
    settings = nest(source, max_patches=3)
    convert_to_original(source, tmp_path / "original")
    convert_to_native(tmp_path / "original", tmp_path / "native")
    back = json.loads((tmp_path / "native" / "preprocessor_config.json").read_text())
    assert settings.items() <= back.items()


@pytest.mark.parametrize(
    ("system", "end", "expected"),
    [
        ("", "<|im_end|>\n", "internvl2_5"),
        ("Be brief.", "<|im_end|>\n", "internvl2_5"),
        ("", "<|im_end|>", "internlm2-chat"),
    ],
)
def test_an_hf_folder_keeps_the_prompts_of_its_chat_template(tiny_checkpoint, tmp_path, system, end, expected):
    source = tmp_path / "hf"
    shutil.copytree(tiny_checkpoint, source)
    config = json.loads((source / "config.json").read_text())
    for name in ("template", "system_message"):
        config.pop(name, None)
    (source / "config.json").write_text(json.dumps(config))
    settings = json.loads((source / "preprocessor_config.json").read_text())
    (source / "preprocessor_config.json").write_text(json.dumps({**settings, "crop_to_patches": False}))
    turn = "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}" + end
    head = f"<|im_start|>system\n{system}{end}" if system else ""
    (source / "chat_template.jinja").write_text(
        head + "{% for message in messages %}" + turn + "{% endfor %}{{ '<|im_start|>assistant\\n' }}"
    )
    convert_to_original(source, tmp_path / "original")
    said = json.loads((tmp_path / "original" / "config.json").read_text())
    assert (said["template"], said["system_message"], said["dynamic_image_size"]) == (expected, system, True)
    convert_to_native(tmp_path / "original", tmp_path / "native")
    assert ModelFolder(tmp_path / "native").template == ModelFolder(source).template


def test_the_tokenizer_goes_back_as_its_authors_have_it(original_with_tokenizer, fixture_tokenizer, tmp_path):
    convert_to_native(original_with_tokenizer, tmp_path / "native")
    convert_to_original(tmp_path / "native", tmp_path / "back")
    back = tmp_path / "back"
    assert (back / "tokenizer.model").read_bytes() == (fixture_tokenizer / "tokenizer.model").read_bytes()
    expected, found = (json.loads((f / "tokenizer_config.json").read_text()) for f in (fixture_tokenizer, back))
    assert expected.items() <= found.items()
    assert not (back / "tokenizer.json").exists()  # the original code would take it for the tokenizer
    text = "<|im_start|>user\n <img>Wie, 多少?"
    assert load_tokenizer(back, INTERNLM2)(text) == load_tokenizer(fixture_tokenizer, INTERNLM2)(text)


def test_a_compressed_student_has_no_original_layout(tiny_checkpoint, tmp_path):
    folder = tmp_path / "student"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "fcot_internvl"}))
    with pytest.raises(UserError, match="has no compressor"):
        convert_to_original(folder, tmp_path / "original")
    assert not (tmp_path / "original").exists()
