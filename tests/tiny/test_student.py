"""The student that ships with the project reads with half of the teacher's visual tokens."""

from pathlib import Path

import pytest

from fcot.training.sft import SFT
from shards.build import build_set
from shards.feed.datamodule import Shards

STUDENT = Path(__file__).parents[2] / "fcot" / "tiny" / "student"


@pytest.fixture(scope="module")
def module():
    loaded = SFT(STUDENT, max_new_tokens=160)
    loaded.configure_model()
    return loaded


def test_it_reads(module, tmp_path):
    build_set(tmp_path, "reading", "test", 30, seed=7, workers=1)
    loader = Shards(tmp_path, num_workers=0).loader("test", with_prompts=True, layout=module.layout)
    by_task = module.evaluate(loader).by_task("anls")
    scores = {task: sum(values) / len(values) for task, values in by_task.items()}
    assert set(scores) == {"chart", "table", "text"}
    assert min(scores.values()) > 0.7, scores


def test_it_has_half_of_the_tokens_and_a_card(module):
    assert module.ratio == 2
    assert module.folder.config.image_seq_length == 8
    assert (STUDENT / "model.safetensors").stat().st_size <= 16 * 2**20
    assert "Shapley" in (STUDENT / "README.md").read_text()
