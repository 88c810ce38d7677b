import json
from pathlib import Path

import pytest

from fcot.internvl.prompts import TEMPLATES, template

# what the original conversation templates give: system message, open prompt, two turns as trained on
ORIGINAL = json.loads((Path(__file__).parent / "internvl2_prompts.json").read_text(encoding="utf-8"))
QUESTION, SECOND = "<image>\nWhat is the total?", "And the tax?"


def text(segments):
    return "".join(segment.text for segment in segments)


def test_every_template_is_one_of_the_originals():
    assert set(ORIGINAL) == set(TEMPLATES)


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_an_open_prompt_is_the_originals_character_for_character(name):
    assert template(name).system == ORIGINAL[name]["system"]
    assert text(template(name).segments([QUESTION], [])) == ORIGINAL[name]["question_only"]


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_two_turns_are_the_originals_character_for_character(name):
    segments = template(name).segments([QUESTION, SECOND], ["42", "7"])
    assert text(segments) == ORIGINAL[name]["two_turns_training"]


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_answers_with_their_end_token_are_what_is_learned(name):
    kind = template(name)
    learned = [segment.text for segment in kind.segments([QUESTION, SECOND], ["42", "7"]) if segment.answer]
    assert learned == ["42" + kind.end, "7" + kind.end]


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_the_prompt_of_the_second_turn_begins_the_trained_text(name):
    kind = template(name)
    prompt = text(kind.segments([QUESTION, SECOND], ["42"]))
    trained = text(kind.segments([QUESTION, SECOND], ["42", "7"]))
    assert trained == prompt + "7" + kind.end + kind.separator


def test_a_system_message_can_be_replaced_kept_or_left_out():
    kind = template("internlm2-chat")
    assert text(kind.with_system("Be brief.").segments(["Hi"], [])).startswith(
        "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nHi"
    )
    assert kind.with_system(None) == kind
    assert text(kind.with_system("").segments(["Hi"], [])).startswith("<|im_start|>user\nHi")


def test_an_unknown_template_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no conversation template 'phi3_chat'\. Did you mean 'phi3-chat'\?"):
        template("phi3_chat")
