import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from fcot.convert.native import convert_to_native

PLACEHOLDER = 50
QWEN2 = {"num_key_value_heads": 1, "tie_word_embeddings": True}


def load(folder):
    return AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)


@pytest.fixture(scope="module")
def converted(fixture_original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native") / "model"
    convert_to_native(fixture_original, folder, 317)
    return folder


def test_the_fixture_computes_what_the_original_code_computed(converted, fixture_original):
    expected = load_file(fixture_original / "expected.safetensors")
    model, report = load(converted)
    assert not any(report.values()), report
    with torch.no_grad():
        features = model.get_image_features(expected["pixel_values"]).pooler_output
        logits = model(input_ids=expected["input_ids"], pixel_values=expected["pixel_values"]).logits
    torch.testing.assert_close(features, expected["image_features"], rtol=0, atol=2e-6)
    torch.testing.assert_close(logits, expected["logits"], rtol=0, atol=5e-6)


def test_the_stand_in_computes_what_the_original_code_computed(original_model, fixture_original):
    expected = load_file(fixture_original / "expected.safetensors")
    config = json.loads((fixture_original / "config.json").read_text())
    model = original_model(load_file(fixture_original / "model.safetensors"), config)
    features = model.features(expected["pixel_values"])
    torch.testing.assert_close(features, expected["image_features"], rtol=0, atol=2e-6)
    logits = model.logits(expected["input_ids"], features, 317)
    torch.testing.assert_close(logits, expected["logits"], rtol=0, atol=5e-6)


def test_others_on_the_machine_may_read_every_file(converted):
    assert {file.name for file in converted.iterdir() if not file.stat().st_mode & 0o044} == set()


def test_whole_numbers_where_fractions_are_meant_are_read(make_original, tmp_path):
    source = make_original("qwen2", attention_dropout=0, rope_theta=10000, num_key_value_heads=2)
    config = json.loads((source / "config.json").read_text())
    config["vision_config"] |= {"initializer_factor": 1, "drop_path_rate": 0, "attention_dropout": 0}
    (source / "config.json").write_text(json.dumps(config))
    convert_to_native(source, tmp_path / "native")
    model, _ = load(tmp_path / "native")
    assert model.config.vision_config.layer_scale_init_value == 1.0


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("internlm2", {"num_key_value_heads": 1}),
        ("internlm2", {"num_key_value_heads": 4, "bias": True, "seed": 1}),
        ("internlm2", {"num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": True}),
        ("internlm2", {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 16}),
        ("internlm2", {"rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 64}),
        ("internlm2", {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 5000.0}),
        ("internlm2", {"vision": {"qk_normalization": True, "norm_type": "rms_norm", "qkv_bias": False}}),
        ("internlm2", {"vision": {"image_size": 112, "hidden_size": 48, "num_attention_heads": 3}, "shards": 3}),
        ("qwen2", QWEN2),
        ("qwen2", {"num_key_value_heads": 2, "shards": 2, "pickled": True}),
        (
            "llama",
            {
                "num_key_value_heads": 2,
                "rope_scaling": {"type": "dynamic", "factor": 2.0},
                "max_position_embeddings": 16,
            },
        ),
        ("llama", {"num_key_value_heads": 4, "attention_bias": True, "pickled": True}),
    ],
    ids=str,
)
def test_any_language_model_computes_what_its_original_does(
    make_original, read_weights, original_model, tmp_path, family, options
):
    source = make_original(family, **options)
    convert_to_native(source, tmp_path / "native", PLACEHOLDER)
    config = json.loads((source / "config.json").read_text())
    model, report = load(tmp_path / "native")
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.tie_word_embeddings == config["llm_config"]["tie_word_embeddings"]
    side = config["force_image_size"]
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    visual = 2 * (side // 28) ** 2
    ids = torch.tensor([[1, 7, *[PLACEHOLDER] * visual, *range(60, 80)]])
    original = original_model(read_weights(source), config)
    with torch.no_grad():
        features = model.get_image_features(pixels).pooler_output
        logits = model(input_ids=ids, pixel_values=pixels).logits
        expected = original.features(pixels)
        expected_logits = original.logits(ids, expected, PLACEHOLDER)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=3e-5)
