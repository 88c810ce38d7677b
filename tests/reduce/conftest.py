"""Tiny models with random weights of every family that can be reduced, and prompts of unlike rows for them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from fcot.models.new_student import student_of
from fcot.models.spec import StudentSpec

IMAGE, BEGIN, END, LAYERS = 1, 2, 3, 6
ROWS = ((1,), (7,), (2, 3), (), (1,))  # tiles of the images of each row
LANGUAGES = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "mistral": MistralConfig}


class Prompt(NamedTuple):
    """A batch for a model.

    Attributes:
        ids: `[rows, tokens]`, padded on the left.
        mask: 1 on tokens `[rows, tokens]`.
        pixels: Of each row, by argument of the model.
    """

    ids: Tensor
    mask: Tensor
    pixels: list[dict[str, Tensor]]

    def all(self) -> dict[str, Any]:
        """What the model is given for the batch."""
        names = {name for each in self.pixels for name in each}
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask,
            **{name: torch.cat([each[name] for each in self.pixels if name in each]) for name in names},
        }

    def one(self, i: int) -> dict[str, Any]:
        """What it is given for a row alone, without padding."""
        ids = self.ids[i, self.mask[i].bool()][None]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **self.pixels[i]}


class Family(NamedTuple):
    """A model and what makes prompts for it."""

    model: Any
    prompt: Callable[..., Prompt]


def language_config(kind: str, **options: Any) -> Any:
    given = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 48,
        "max_position_embeddings": 512,
        "initializer_range": 0.12,
        "tie_word_embeddings": False,
        "eos_token_id": None,
        "pad_token_id": 0,
        **({"sliding_window": None} if kind == "mistral" else {}),
    }
    return LANGUAGES[kind](**{**given, **options})


def spans_prompt(spans: list[list[int]], pixels: list[dict[str, Tensor]], seed: int) -> Prompt:
    """Text, an image's tokens between marks, text, and so on; `spans` are visual tokens of each image of each row."""
    draw, rows = torch.Generator().manual_seed(seed), []
    for i, images in enumerate(spans):
        row: list[int] = torch.randint(4, 64, (2 + i,), generator=draw).tolist()
        for count in images:
            row += [BEGIN, *[IMAGE] * count, END, *torch.randint(4, 64, (2,), generator=draw).tolist()]
        rows.append(row + torch.randint(4, 64, (5,), generator=draw).tolist())
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return Prompt(ids, mask, pixels)


def internvl(language: str, side: int = 56, heads: int = 2, **options: Any) -> Family:
    """Tiles of `side` pixels, a tower of `heads` heads; the language model has the options."""
    vision = InternVLVisionConfig(
        hidden_size=8 * heads,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=32,
        image_size=(side, side),
        patch_size=(14, 14),
        initializer_range=0.3,
        layer_scale_init_value=1.0,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=language_config(language, **options),
        image_token_id=IMAGE,
        image_seq_length=(side // 28) ** 2,
    )
    tokens = config.image_seq_length

    def prompt(rows: tuple[tuple[int, ...], ...] = ROWS, seed: int = 1, per_tile: int = tokens) -> Prompt:
        draw = torch.Generator().manual_seed(seed)
        pixels = [
            {"pixel_values": torch.randn(sum(images), 3, side, side, generator=draw)} if images else {}
            for images in rows
        ]
        return spans_prompt([[per_tile * tiles for tiles in images] for images in rows], pixels, seed)

    return Family(InternVLForConditionalGeneration(config), prompt)


def clip() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=56,
        patch_size=14,
        projection_dim=16,
        initializer_range=0.3,
    )


def llava() -> Family:
    config = LlavaConfig(vision_config=clip(), text_config=language_config("llama"), image_token_id=IMAGE)

    def prompt(rows: tuple[tuple[int, ...], ...] = ROWS, seed: int = 1) -> Prompt:
        """An image has one tile, so a row of seven tiles has seven images."""
        draw = torch.Generator().manual_seed(seed)
        pixels = [
            {"pixel_values": torch.randn(sum(images), 3, 56, 56, generator=draw)} if images else {} for images in rows
        ]
        return spans_prompt([[16] * sum(images) for images in rows], pixels, seed)

    return Family(LlavaForConditionalGeneration(config), prompt)


def llava_next() -> Family:
    grids = [[56, 112], [112, 56], [112, 112], [56, 168]]
    config = LlavaNextConfig(
        vision_config=clip(),
        text_config=language_config("mistral"),
        image_token_id=IMAGE,
        image_grid_pinpoints=grids,
    )
    model = LlavaNextForConditionalGeneration(config)
    sizes = {1: (56, 112), 2: (112, 60), 3: (40, 168), 7: (112, 112)}  # of images, by the tiles that others have

    def prompt(rows: tuple[tuple[int, ...], ...] = ROWS, seed: int = 1) -> Prompt:
        draw, spans, pixels = torch.Generator().manual_seed(seed), [], []
        for images in rows:
            there = torch.tensor([sizes[tiles] for tiles in images]).reshape(-1, 2)
            tiles = [image_size_to_num_patches(size.tolist(), grids, 56) for size in there]
            values = torch.zeros(len(images), 5, 3, 56, 56)
            for i, count in enumerate(tiles):
                values[i, :count] = torch.randn(count, 3, 56, 56, generator=draw)
            given = {"pixel_values": values, "image_sizes": there} if images else {}
            pixels.append(given)
            with torch.no_grad():
                found = model.model.get_image_features(**given).pooler_output if images else []
            spans.append([len(each) for each in found])
        return spans_prompt(spans, pixels, seed)

    return Family(model, prompt)


MAKERS: dict[str, Callable[[], Family]] = {
    "internvl-llama": lambda: internvl("llama"),
    "internvl-qwen2": lambda: internvl("qwen2"),
    "internvl-qwen3": lambda: internvl("qwen3"),
    "llava": llava,
    "llava-next": llava_next,
}
ROPE = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
MORE = {  # for single tests
    "dynamic rope": lambda: internvl("llama", rope_parameters=ROPE, max_position_embeddings=24),
    "large tiles": lambda: internvl("llama", side=448, heads=8),
}


@pytest.fixture(scope="session")
def family() -> Callable[[str], Family]:
    """Return a function that gives a model of a family by name, made once, and what makes prompts for it."""
    known: dict[str, Family] = {}

    def get(name: str) -> Family:
        if name not in known:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                known[name] = {**MAKERS, **MORE}[name]()
            known[name].model.eval()
        return known[name]

    return get


@pytest.fixture(params=tuple(MAKERS))
def each_family(request: pytest.FixtureRequest, family: Callable[[str], Family]) -> Family:
    """Every family in turn."""
    return family(request.param)


@pytest.fixture
def llama(family: Callable[[str], Family]) -> Family:
    """InternVL with a Llama."""
    return family("internvl-llama")


@pytest.fixture(scope="session")
def student(family: Callable[[str], Family]) -> Family:
    """A student of the InternVL with a Llama: two tokens a tile, at the teacher's positions."""
    teacher, prompt = family("internvl-llama")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = student_of(deepcopy(teacher), StudentSpec(compressor="conv", ratio=2, keep_positions=True)).eval()
    return Family(model, partial(prompt, per_tile=2))


@pytest.fixture(scope="session")
def greedy() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a function that gives logits `[rows, steps, vocabulary]` and tokens `[rows, steps]` of greedy answers."""

    def answer(model: Any, given: dict[str, Any], steps: int = 6, **options: Any) -> tuple[Tensor, Tensor]:
        options = {"max_new_tokens": steps, "do_sample": False, **options}
        out = model.generate(**given, **options, return_dict_in_generate=True, output_logits=True)
        return torch.stack(out.logits, 1), out.sequences[:, -steps:]

    return answer
