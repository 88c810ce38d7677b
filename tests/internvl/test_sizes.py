import pytest
import torch

from fcot.internvl.sizes import SIZES, write_size
from fcot.models.student_teacher import StudentTeacher


@pytest.mark.parametrize(
    ("name", "total", "projector"), [("1b", 0.938e9, 4.48e6), ("2b", 2.21e9, 12.60e6), ("8b", 8.08e9, 33.57e6)]
)
def test_sizes_have_the_parameters_of_the_published_models(tmp_path, name, total, projector):
    with torch.device("meta"):
        model = StudentTeacher(write_size(name, tmp_path), from_scratch=True).student
    parts = model.model
    count = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.named_children()}
    assert count["vision_tower"] == pytest.approx(304.01e6, rel=1e-4)
    assert count["multi_modal_projector"] == pytest.approx(projector, rel=1e-3)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(total, rel=2e-3)


def test_the_size_for_processors_has_a_language_model_of_100_million_parameters():
    language = SIZES["100m"].language
    head = language.hidden_size // language.num_attention_heads
    attention = 2 * head * (language.num_attention_heads + language.num_key_value_heads)
    layer = language.hidden_size * (attention + 3 * language.intermediate_size)
    assert 100e6 < language.num_hidden_layers * layer < 150e6
    assert language.vocab_size == 92553
