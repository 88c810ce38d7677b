"""Tiny InternVLs with random weights on three language models, and a mixed batch for them."""

import pytest
import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

IMAGE, PAD = 90, 0
SIDE = 8  # patches along a side of a tile: 16 visual tokens


def tiny_model(text, *, seed=0, **vision):
    torch.manual_seed(seed)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            attention_bias=True,
            image_size=(14 * SIDE, 14 * SIDE),
            patch_size=(14, 14),
            initializer_range=0.2,
            layer_scale_init_value=1.0,
            **vision,
        ),
        text_config=text(
            vocab_size=96,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            initializer_range=0.2,
            pad_token_id=PAD,
            bos_token_id=None,
            eos_token_id=None,
            head_dim=8,
        ),
        image_token_id=IMAGE,
        image_seq_length=SIDE * SIDE // 4,
    )
    model = InternVLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name in ("cls_token", "position_embeddings"):
            torch.nn.init.normal_(getattr(model.model.vision_tower.embeddings, name), std=0.5)
    return model


@pytest.fixture(scope="session", params=[LlamaConfig, Qwen2Config, Qwen3Config], ids=["llama", "qwen2", "qwen3"])
def model(request):
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def make_model():
    """Return the function that makes such a model."""
    return tiny_model


# tiles of each image of each row, and the grid of these without the thumbnail
TILES = [[3], [7], [1, 5], [], [1]]
GRIDS = [[(1, 2)], [(2, 3)], [(1, 1), (2, 2)], [], [(1, 1)]]
KEYS = ["one", "several", "two", "text", "single"]


@pytest.fixture(scope="session")
def rows():
    """Ids and tiles of five rows: an image, one of several tiles, two images, text only, an image of one tile."""
    torch.manual_seed(3)
    made = []
    for tiles in TILES:
        ids = [torch.randint(1, 88, (5,))]
        for count in tiles:
            ids += [torch.tensor([88]), torch.full((count * SIDE * SIDE // 4,), IMAGE), torch.tensor([89])]
            ids.append(torch.randint(1, 88, (3,)))
        ids.append(torch.randint(1, 88, (4,)))
        made.append((torch.cat(ids), torch.randn(sum(tiles), 3, 14 * SIDE, 14 * SIDE)))
    return made


@pytest.fixture(scope="session")
def batch(rows):
    """Return a function that pads some of the rows into the inputs of a model, and gives their grids and keys."""

    def make(*which, padding="left"):
        which = which or range(len(rows))
        ids = [rows[row][0] for row in which]
        pad = lambda parts: torch.nn.utils.rnn.pad_sequence(parts, True, PAD, padding)  # noqa: E731
        inputs = {"input_ids": pad(ids), "attention_mask": pad([torch.ones_like(each) for each in ids])}
        tiles = torch.cat([rows[row][1] for row in which])
        if len(tiles):
            inputs["pixel_values"] = tiles
        return inputs, [GRIDS[row] for row in which], [KEYS[row] for row in which]

    return make
