"""Checkpoints of any size for `bench merge`: made up, in the layout of Llama, which other programs know too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.files.finite import pieces
from fcot.files.stream_weights import stream_weights
from fcot.files.weights import Layout

MARKER = "bench_merge.json"  # says what the checkpoints of a folder are
HEAD_WIDTH = 8


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        layers: Of the decoder.
        width: Of a hidden row; feed-forward layers are four times as wide.
        vocabulary: Rows of embedding and head.
    """

    layers: int
    width: int
    vocabulary: int

    @classmethod
    def of(cls, parameters: float, width: int, vocabulary: int) -> Shape:
        """Return the shape with about so many parameters.

        Raises:
            UserError: If the vocabulary alone has more, or a size is unusable.
        """
        if min(width, vocabulary) < 1 or width % HEAD_WIDTH:
            raise UserError(f"width is {width}, vocabulary {vocabulary}.\nGive a width that {HEAD_WIDTH} divides.")
        one, two = (cls(layers, width, vocabulary).parameters for layers in (1, 2))
        layers = 1 + round((parameters - one) / (two - one))
        if layers < 1:
            raise UserError(
                f"{parameters:,.0f} parameters are fewer than a model of one layer has with this width and vocabulary: "
                f"{one:,}.\nGive more, or a smaller vocabulary."
            )
        return cls(layers, width, vocabulary)

    @property
    def layout(self) -> Layout:
        """Each tensor's dtype and shape."""
        wide = 4 * self.width
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.width)}
        for layer in range(self.layers):
            home = f"model.layers.{layer}"
            for name in "qkvo":
                shapes[f"{home}.self_attn.{name}_proj.weight"] = (self.width, self.width)
            for name in ("gate", "up"):
                shapes[f"{home}.mlp.{name}_proj.weight"] = (wide, self.width)
            shapes[f"{home}.mlp.down_proj.weight"] = (self.width, wide)
            for name in ("input_layernorm", "post_attention_layernorm"):
                shapes[f"{home}.{name}.weight"] = (self.width,)
        shapes |= {"model.norm.weight": (self.width,), "lm_head.weight": (self.vocabulary, self.width)}
        return {name: (torch.bfloat16, shape) for name, shape in shapes.items()}

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(prod(shape) for _, shape in self.layout.values())

    @property
    def config(self) -> dict[str, object]:
        """The `config.json`."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.width // HEAD_WIDTH,
            "num_key_value_heads": self.width // HEAD_WIDTH,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }


class Made(Mapping[str, Tensor]):
    """A checkpoint whose tensors are drawn at look-up: normal weights, and for others than the base small changes."""

    def __init__(self, shape: Shape, place: int) -> None:
        self.layout, self.place = shape.layout, place

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape = self.layout[name]
        tensor = torch.empty(shape, dtype=dtype)
        number = [*self.layout].index(name)
        base, own = (torch.Generator().manual_seed(1000 * number + place) for place in (0, self.place))
        for piece in pieces(tensor):
            drawn = torch.randn(len(piece), generator=base) * 0.02
            if self.place:
                drawn += torch.randn(len(piece), generator=own) * 0.002
            piece.copy_(drawn)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout)

    def __len__(self) -> int:
        return len(self.layout)


def make_checkpoints(folder: Path, shape: Shape, count: int, lacking: int = 0) -> list[Path]:
    """Make checkpoints, or find those of the same shape and number that an earlier call made.

    Args:
        folder: Where they are.
        shape: Of each.
        count: How many.
        lacking: Bytes that the disk lacks for them.

    Returns:
        Their folders, the base first.

    Raises:
        UserError: If the folder holds others, or the disk lacks space.
    """
    folders = [folder / f"checkpoint-{place}" for place in range(count)]
    said = json.dumps({**asdict(shape), "count": count})
    marker = folder / MARKER
    if marker.is_file() and marker.read_text(encoding="utf-8") == said:
        return folders
    if folder.exists():
        raise UserError(f"{folder} holds other checkpoints, or a part of some.\nRemove it, or give another --folder.")
    if lacking > 0:
        raise UserError(f"The disk of {folder} lacks {lacking / 1e9:.1f} GB.\nGive a --folder on another disk.")
    for place, each in enumerate(folders):
        stream_weights(each, Made(shape, place), shape.layout)
        (each / "config.json").write_text(json.dumps(shape.config), encoding="utf-8")
    marker.write_text(said, encoding="utf-8")
    return folders


def largest_tensor(shape: Shape) -> int:
    """Return the bytes of the largest tensor."""
    return max(dtype.itemsize * prod(size) for dtype, size in shape.layout.values())
