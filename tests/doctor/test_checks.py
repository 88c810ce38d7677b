"""What would fail later is found by name before anything is loaded."""

import json
import shutil

import pytest

from fcot.doctor.checks import problems, too_long
from fcot.doctor.page import page_cost
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def change(file, **settings):
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **settings}))


def found(folder):
    return list(problems(ModelFolder(folder)))


def test_a_whole_folder_has_none(tiny_checkpoint, tmp_path):
    assert found(tiny_checkpoint) == []
    for placement in ("before", "after"):
        pair = StudentTeacher(tiny_checkpoint, compressor="conv", ratio=4, placement=placement)
        save_student(pair.student, tmp_path / placement, tiny_checkpoint)
        assert found(tmp_path / placement) == []


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("config.json", {"image_token_id": 3}, "image_token_id 3, and the tokenizer gives <IMG_CONTEXT> the id 261"),
        ("config.json", {"image_seq_length": 256}, "config.json says image_seq_length 256, and a tile has 4"),
        ("config.json", {"tie_word_embeddings": True}, "the head in the weights would be replaced"),
        ("config.json", {"template": "internvl9"}, "no conversation template 'internvl9'"),
        ("processor_config.json", {}, "processor_config.json says image_seq_length 256"),
        ("preprocessor_config.json", {"size": {"height": 448, "width": 448}}, "vision tower takes 56 pixels"),
        ("preprocessor_config.json", {"image_std": None}, "has no image_std of three colours"),
        ("generation_config.json", {"eos_token_id": 0}, "stops at [0], not at <|im_end|>"),
    ],
)
def test_what_disagrees_is_named(copy, file, settings, message):
    change(copy / file, **settings)
    assert [problem for problem in found(copy) if message in problem], found(copy)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("tokenizer.json", "has no tokenizer"),
        ("preprocessor_config.json", "has no image settings, neither preprocessor_config.json nor"),
        ("model.safetensors", "There are no weights in"),
    ],
)
def test_a_missing_file_is_named(copy, file, message):
    (copy / file).unlink()
    assert [problem for problem in found(copy) if message in problem]


def test_a_folder_that_transformers_5_saved_has_none(copy, nest):
    nest(copy)
    assert found(copy) == []
    nested = json.loads((copy / "processor_config.json").read_text())
    nested["image_processor"]["image_std"] = None
    (copy / "processor_config.json").write_text(json.dumps(nested))
    assert found(copy) == ["processor_config.json has no image_std of three colours."]


def test_weights_of_another_shape_name_the_tensor(copy):
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["intermediate_size"] += 8
    (copy / "config.json").write_text(json.dumps(config))
    (first, *_) = found(copy)
    assert "gate_proj.weight' has shape [96, 32], but the configuration requires [104, 32]" in first


def test_tensors_that_are_missing_or_unknown_are_counted_and_one_is_named(copy):
    config = json.loads((copy / "config.json").read_text())
    config["text_config"] |= {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}
    config["vision_config"]["attention_bias"] = False
    (copy / "config.json").write_text(json.dumps(config))
    missing, unknown = found(copy)
    assert "tensors are missing, such as 'model.language_model.layers.1." in missing
    assert "3 tensors do not belong to this model, such as 'model.vision_tower.encoder.layer.0.attention." in unknown


def test_a_page_beyond_the_context_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 20
    (copy / "config.json").write_text(json.dumps(config))
    folder = ModelFolder(copy)
    assert too_long(folder, page_cost(folder, 112, 56, 2)) is None
    said = too_long(folder, page_cost(folder, 168, 112, 2))
    assert "has 30 tokens before compression, and the model reads 20" in said
