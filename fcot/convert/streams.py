"""Turn a checkpoint's tensors into those of the other layout, one at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcot.convert.language import LanguageModel
from fcot.convert.llama import EMBEDDING, HEAD
from fcot.convert.mapping import Mapped
from fcot.convert.source import check_tensors
from fcot.convert.vision import projector_tensors, vision_tensors
from fcot.errors import UserError
from fcot.files.finite import is_finite
from fcot.files.weights import LazyWeights
from fcot.internvl.names import as_written


def mapped_tensors(config: Any, model: LanguageModel) -> list[Mapped]:
    """Return all tensors of a model, by its native configuration and the family of its language model."""
    return [
        *vision_tensors(config.vision_config),
        *projector_tensors(config),
        *model.tensors(config.text_config),
    ]


def original_name(entries: Sequence[Mapped], native: str) -> str:
    """Return the original name of a tensor that is the same in both layouts."""
    return next(entry.original for entry in entries if entry.native == (native,))


def to_native(
    weights: LazyWeights, entries: Sequence[Mapped], config: Path, *, tied: bool
) -> Iterator[tuple[str, Tensor]]:
    """Check an original checkpoint, then return a stream of its native tensors, in the order of its files.

    Args:
        weights: The checkpoint.
        entries: Its tensors.
        config: Its configuration file, for messages.
        tied: The head shares the embedding's weights, and may be missing.

    Raises:
        UserError: At once for names and shapes, while reading for values: names file and tensor.
    """
    by_name = {entry.original: entry for entry in entries}
    head = original_name(entries, HEAD)
    embedding = original_name(entries, EMBEDDING)
    expected = {name: entry.shape for name, entry in by_name.items()}
    check_tensors(weights, {name: name for name in weights}, expected, head if tied else None, config)
    if tied:
        _check_tied(weights, head, embedding)
    return (native for name in weights for native in by_name[name].split(_finite(weights, name)))


def to_original(
    weights: LazyWeights, entries: Sequence[Mapped], config: Path, *, tied: bool
) -> Iterator[tuple[str, Tensor]]:
    """Check a native checkpoint, then return a stream of its original tensors; the inverse of `to_native`."""
    names = {as_written(name): name for name in weights}
    expected = {name: shape for entry in entries for name, shape in entry.native_shapes.items()}
    check_tensors(weights, names, expected, HEAD if tied else None, config)
    return (
        (entry.original, entry.fuse([_finite(weights, names[name]) for name in entry.native]))
        for entry in entries
        if all(name in names for name in entry.native)
    )


def _check_tied(weights: LazyWeights, head: str, embedding: str) -> None:
    if head in weights and not torch.equal(weights[head], weights[embedding]):
        raise UserError(
            f"Tensor {head!r} in {weights.file_of[head]} differs from {embedding!r}, and config.json ties them.\n"
            "Set tie_word_embeddings of llm_config to false, or take the weights that belong to it."
        )


def _finite(weights: LazyWeights, name: str) -> Tensor:
    """Return a checked tensor from a new memory map: the pages read for the check would otherwise stay in memory."""
    if not is_finite(weights[name]):
        raise UserError(
            f"Tensor {name!r} in {weights.file_of[name]} holds NaN or infinity.\n"
            "Fetch the file again, or take a checkpoint from before training diverged."
        )
    return weights[name]
