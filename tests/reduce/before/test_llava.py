"""The same reducers on LLaVA-1.5, whose published figures they are checked against."""

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from fcot.reduce import REDUCERS, BeforeReducer, shorten
from fcot.reduce.tower import look

METHODS = [name for name, member in REDUCERS.items() if issubclass(member, BeforeReducer)]
IMAGE = 90


@pytest.fixture(scope="module")
def llava():
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=112,
        patch_size=14,
        initializer_factor=8.0,
    )
    text = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-2, image_seq_length=64
    )
    return LlavaForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def inputs():
    torch.manual_seed(1)
    two = torch.tensor([1, 2, *[IMAGE] * 64, 3, *[IMAGE] * 64, 4, 5])
    one = torch.tensor([7, *[IMAGE] * 64, 8, 9])
    ids = torch.nn.utils.rnn.pad_sequence([two, one], True, 0, "left")
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": torch.randn(3, 3, 112, 112)}


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_rows_of_a_batch_are_read_as_alone(llava, inputs, method):
    reducer = REDUCERS[method](keep=0.25)
    together = shorten(llava, inputs, reducer)
    logits = llava(**together).logits
    for row, tiles in enumerate([slice(0, 2), slice(2, 3)]):
        own = inputs["attention_mask"][row] == 1
        alone = {"input_ids": inputs["input_ids"][row, own][None], "pixel_values": inputs["pixel_values"][tiles]}
        short = shorten(llava, alone, reducer)
        expected = llava(**short).logits[0]
        assert ((short["input_ids"] == IMAGE).sum() - 16 * (2 - row)).abs() == 0
        torch.testing.assert_close(logits[row, -len(expected) :], expected, rtol=0, atol=1e-5)
        tokens = llava.generate(**short, max_new_tokens=4, do_sample=False)
        assert tokens.shape == (1, len(expected) + 4)


@torch.no_grad()
def test_what_keeps_all_is_the_plain_model_to_the_bit(llava, inputs):
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    plain = llava(**inputs, position_ids=positions).logits
    assert torch.equal(llava(**shorten(llava, inputs, REDUCERS["visionzip"](keep=1.0))).logits, plain)


@torch.no_grad()
def test_attention_is_that_of_the_layer_that_made_the_features_and_of_the_one_behind(llava, inputs):
    tower = llava.model.vision_tower
    tower.set_attn_implementation("eager")
    maps = tower(inputs["pixel_values"], output_attentions=True).attentions
    tower.set_attn_implementation("sdpa")
    _, attention = look(llava, inputs["pixel_values"], ["last", "behind"])
    torch.testing.assert_close(attention["last"].cls(), maps[-2].mean(1)[:, 0, 1:])
    torch.testing.assert_close(attention["behind"].cls(), maps[-1].mean(1)[:, 0, 1:])
