"""The teacher that ships with the project reads pages it has never seen."""

from pathlib import Path

import pytest

from fcot.training.sft import SFT
from shards.build import build_set
from shards.feed.datamodule import Shards

TEACHER = Path(__file__).parents[2] / "fcot" / "tiny" / "teacher"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    def score(recipe, pages):
        root = tmp_path_factory.mktemp("pages")
        build_set(root, recipe, "test", pages, seed=7, workers=1)
        loader = Shards(root, num_workers=0, eval_batch_size=16).loader("test", with_prompts=True, layout=module.layout)
        return {task: sum(each) / len(each) for task, each in module.evaluate(loader).by_task("anls").items()}

    module = SFT(TEACHER, max_new_tokens=160)
    module.configure_model()
    return score


def test_it_reads(scored):
    scores = scored("reading", 30)
    assert set(scores) == {"chart", "table", "text"}
    assert min(scores.values()) > 0.85, scores


def test_it_looks_up_compares_and_reckons(scored):
    scores = scored("questions", 70)
    assert sum(scores[task] for task in ("lookup", "compare", "arithmetic", "form")) / 4 > 0.85, scores


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
