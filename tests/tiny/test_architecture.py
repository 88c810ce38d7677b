"""A tiny model that is trained next can be served: its heads and its video token are those that engines take."""

import json

import pytest
from transformers import AutoConfig, AutoTokenizer

from fcot.tiny import write_architecture

KERNELS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)  # head widths of vLLM 0.32's attention on CPUs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_architecture(tmp_path_factory.mktemp("tiny") / "new")


def test_its_heads_have_a_width_that_engines_have_kernels_for(folder):
    text = AutoConfig.from_pretrained(folder).text_config
    assert text.hidden_size / text.num_attention_heads in KERNELS


def test_its_video_token_is_there_and_no_image_token(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = {
        value
        for name, value in json.loads((folder / "tokenizer_config.json").read_text()).items()
        if "_image_token" in name
    }
    assert len(images) == 3 and tokenizer.video_token in tokenizer.get_vocab() and tokenizer.video_token not in images
