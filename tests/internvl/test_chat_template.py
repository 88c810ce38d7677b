"""What `apply_chat_template` renders is what the model was trained on, character for character."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from fcot.internvl.chat_template import chat_template
from fcot.internvl.prompts import TEMPLATES, template

ORIGINAL = json.loads((Path(__file__).parent / "internvl2_prompts.json").read_text(encoding="utf-8"))


def rendered(layout, messages, **options):
    (text,), _ = render_jinja_template(conversations=[messages], chat_template=chat_template(layout), **options)
    return text


def said(role, *texts, images=0):
    parts = [{"type": "image"}] * images + [{"type": "text", "text": text} for text in texts]
    return {"role": role, "content": parts}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_conversation_reads_as_in_training(name):
    layout = template(name)
    segments = layout.segments(["<image>\n<image>\nWhat?", "It's \\n {{ 1 }}?"], ["a 'b'\n"])
    trained = "".join(segment.text for segment in segments).replace("<image>", "<IMG_CONTEXT>")
    messages = [said("user", "What?", images=2), said("assistant", "a 'b'\n"), said("user", "It's \\n {{ 1 }}?")]
    assert rendered(layout, messages, add_generation_prompt=True) == trained


@pytest.mark.parametrize("name", sorted(ORIGINAL))
def test_it_is_the_originals(name):
    first, second = said("user", "What is the total?", images=1), said("user", "And the tax?")
    messages = [first, said("assistant", "42"), second, said("assistant", "7")]
    for conversation, key in ((messages[:1], "question_only"), (messages, "two_turns_training")):
        found = rendered(template(name), conversation, add_generation_prompt=len(conversation) == 1)
        # a separator after the last answer is no part of what the original trains on
        assert found.rstrip("\n" if key == "two_turns_training" else "") == ORIGINAL[name][key].replace(
            "<image>", "<IMG_CONTEXT>"
        ).rstrip("\n" if key == "two_turns_training" else "")


def test_a_conversations_own_system_message_takes_the_place_of_the_models():
    layout = replace(template("internvl2_5"), system="default")
    found = rendered(layout, [{"role": "system", "content": "own"}, said("user", "Hi")])
    assert found == "<|im_start|>system\nown<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"


def test_without_a_system_message_none_is_written():
    layout = replace(template("internlm2-chat"), system="")
    assert rendered(layout, [said("user", "Hi")]) == "<|im_start|>user\nHi<|im_end|>"
