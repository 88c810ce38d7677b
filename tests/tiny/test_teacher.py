"""The teacher that ships with the project reads pages it has never seen."""

from pathlib import Path

import pytest

from fcot.training.sft import SFT
from shards.build import build_set
from shards.feed.datamodule import Shards

TEACHER = Path(__file__).parents[2] / "fcot" / "tiny" / "teacher"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    build_set(root, "reading", "test", 30, seed=7, workers=1)
    module = SFT(TEACHER, max_new_tokens=160)
    module.configure_model()
    return module.evaluate(Shards(root, num_workers=0).loader("test", with_prompts=True, layout=module.layout))


def test_it_reads(evaluation):
    scores = {task: sum(values) / len(values) for task, values in evaluation.by_task("anls").items()}
    assert set(scores) == {"chart", "table", "text"}
    assert min(scores.values()) > 0.85, scores


def test_it_is_small_and_has_a_card():
    assert (TEACHER / "model.safetensors").stat().st_size <= 16 * 2**20
    card = (TEACHER / "README.md").read_text()
    for word in ("recipe", "data", "seed", "ANLS"):
        assert word.lower() in card.lower()


def test_it_is_a_native_internvl():
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(TEACHER, local_files_only=True)
    assert type(model).__name__ == "InternVLForConditionalGeneration"
    assert model.config.image_seq_length == 16
