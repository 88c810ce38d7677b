import pytest
from transformers import AutoConfig

from fcot.doctor.memory import Step, _kept_by_forward, parameters_by_part, training_steps
from fcot.internvl.checkpoint import ModelFolder
from fcot.pair import StudentTeacher, part_of
from fcot.student import load_student, save_student
from fcot.tiny import write_architecture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration without weights, of three and two layers."""
    path = tmp_path_factory.mktemp("architecture")
    return ModelFolder(write_architecture(path, tile_size=56, width=32, vision_layers=3, text_layers=2, heads=2))


def test_what_is_counted_is_what_a_real_forward_pass_keeps(folder):
    steps = {step.stage: step for step in training_steps(folder, tiles=3, text_tokens=40, ratio=2)}
    pair = StudentTeacher(folder.path, compressor="conv", ratio=2, from_scratch=True)
    for stage, parts in (("re-align", ["projector"]), ("sft", ["vision", "projector", "llm"])):
        pair.train_parts(*parts)
        own = {parameter.untyped_storage()._cdata for parameter in pair.parameters()}
        assert steps[stage].kept == pytest.approx(_kept_by_forward(pair, 3, 40, own), rel=1e-3)
        trainable = sum(parameter.numel() for _, parameter in pair.trainable())
        assert steps[stage].trainable == 4 * trainable
    assert steps["sft"].weights == 4 * sum(parameter.numel() for parameter in pair.student.parameters())


def test_a_student_is_not_re_aligned_and_keeps_its_ratio(tiny_checkpoint, tmp_path):
    pair = StudentTeacher(tiny_checkpoint, compressor="conv", ratio=4)
    save_student(pair.student, tmp_path, tiny_checkpoint)
    (step,) = training_steps(ModelFolder(tmp_path), tiles=3, text_tokens=40, ratio=2)
    assert step.stage == "sft"


def test_the_parts_add_up_to_the_model(tiny_checkpoint):
    counts = dict.fromkeys(("vision", "projector", "llm"), 0)
    for name, parameter in load_student(tiny_checkpoint).named_parameters():
        counts[part_of(name)] += parameter.numel()
    assert parameters_by_part(ModelFolder(tiny_checkpoint)) == counts
    assert AutoConfig.from_pretrained(tiny_checkpoint).model_type == "internvl"


def test_strategies_share_what_they_share():
    step = Step("sft", weights=800, trainable=400, largest=10, kept=7, loss=3)
    assert step.total("single", 8) == 800 + 3 * 400 + 10
    assert step.total("ddp", 8) == step.total("single", 8) + 400  # nothing is shared, gradients wait in buckets
    assert step.total("fsdp2", 8) == (800 + 3 * 400) // 8 + 2 * 10 + 10
