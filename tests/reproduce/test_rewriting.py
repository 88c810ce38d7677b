"""The same verified answers in three wordings, and what a chain's answer rests on."""

import json

import pytest

from fcot.cli.main import main
from fcot.reproduce.chains import Counted, count, rests_on
from fcot.reproduce.rewriting_targets import ARMS, worded
from shards.factory.question import Known
from shards.factory.requests import Response
from shards.factory.verifiers import Task
from shards.factory.verifiers.conclusion import concluded

CHAIN = "Kula: 31\nGediz: 22\nKocaali: 15\nGediz: 22\nKocaali: 15\n2+5=7\n2+1=3\n22+15=37\nAnswer: 37"
KNOWN = Known(0, "arithmetic", "Sum of Gediz and Kocaali?", CHAIN, Task("37", (), "Sum of Gediz and Kocaali?"))


@pytest.mark.parametrize("arm", ARMS)
def test_every_wording_concludes_the_same(arm):
    assert concluded(worded(CHAIN, arm)) == "37"


def test_foreign_words_hold_the_facts_of_the_chain_at_about_its_length():
    foreign = worded(CHAIN, "foreign")
    assert all(f"{value} ({name})" in foreign for name, value in (("Kula", 31), ("Gediz", 22), ("Kocaali", 15)))
    assert "37=22+15" in foreign
    assert abs(len(foreign) - len(CHAIN)) < 0.2 * len(CHAIN)
    assert worded(CHAIN, "bare") == "Answer: 37"
    assert worded(CHAIN, "own") == CHAIN


def test_wrong_reasoning_behind_a_right_conclusion_is_counted_before_and_after_the_chain_is_checked():
    misread = CHAIN.replace("Gediz: 22\nKocaali: 15\n2", "Oediz: 22\nKocaali: 15\n2")
    wrong = CHAIN.replace("37", "38")
    found = Counted()
    count(found, KNOWN, [Response("a", CHAIN), Response("b", misread), Response("c", wrong)])
    assert vars(found) == {"right": 2, "right_wrongly": 1, "accepted": 1, "accepted_wrongly": 0, "lost": 0}
    assert rests_on(misread, "arithmetic") == ["Oediz: 22", "Kocaali: 15"]


@pytest.mark.slow
def test_the_whole_experiment_in_small(tmp_path):
    sizes = "--pages 40 --samples 1 --steps 3 --realign_steps 2 --test_pages 14 --seeds 1"
    main(["reproduce", "rewriting", "--output", str(tmp_path / "run"), *sizes.split()])
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["arms"]["own"]["teacher_loss"] < found["arms"]["foreign"]["teacher_loss"]
    assert (tmp_path / "run" / "results.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_teacher_earns_chains_in_small(tmp_path):
    main(["reproduce", "chains", "--output", str(tmp_path / "run"), "--pages", "40", "--samples", "2", "--steps", "2"])
    assert json.loads((tmp_path / "run" / "chains.json").read_text())["all"]["right"] > 0
    assert (tmp_path / "run" / "sft" / "snapshots" / "step-000002" / "config.json").is_file()
