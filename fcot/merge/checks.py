"""Check checkpoints before hours are spent on scoring their mixtures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.files.finite import is_finite, pieces
from fcot.files.weights import Layout, LazyWeights, open_weights


def source_of(weights: Mapping[str, Tensor], position: int | None = None) -> str:
    """Return a checkpoint's name for messages: its file or folder, or its number among the snapshots."""
    if isinstance(weights, LazyWeights):
        return str(weights.source)
    return "the base" if position is None else f"snapshot {position + 1}"


def check_readable(base: Path, snapshots: Iterable[Path]) -> None:
    """Check that the base and the snapshots can be opened; only their headers are read.

    Raises:
        UserError: If one is missing, or is no safetensors.
    """
    for folder in (base, *snapshots):
        try:
            open_weights(folder)
        except (OSError, ValueError) as error:
            other = "Give another base: final (the last snapshot), or the folder of the model that was trained."
            remedy = other if folder == base else "Train again, or move it away to merge the others."
            wrong = str(error).replace("\n", " ").split(". ")[0]
            raise UserError(f"{folder} cannot be merged ({wrong}).\n{remedy}") from error


def check_same_tensors(base: Mapping[str, Tensor], checkpoints: Sequence[Mapping[str, Tensor]]) -> None:
    """Check that every checkpoint has the base's tensors: the same names, shapes and dtypes.

    Raises:
        UserError: If one does not; names the checkpoint and the tensor.
    """
    expected = layout_of(base)
    for position, checkpoint in enumerate(checkpoints):
        found = layout_of(checkpoint)
        where = source_of(checkpoint, position)
        for name in sorted(expected.keys() ^ found.keys()):
            lacking, having = (where, source_of(base)) if name in expected else (source_of(base), where)
            raise UserError(
                f"{lacking} lacks tensor '{name}', which {having} has. "
                "Merge only checkpoints of one model, saved in the same way."
            )
        for name, (dtype, shape) in expected.items():
            if found[name] != (dtype, shape):
                raise UserError(
                    f"Tensor '{name}' is {_words(found[name])} in {where} but {_words((dtype, shape))} in "
                    f"{source_of(base)}. Merge only checkpoints of one model, saved with the same dtype."
                )


def fingerprint(weights: Mapping[str, Tensor], position: int | None = None) -> str:
    """Hash a checkpoint, reading each tensor once, and refuse NaN and infinity.

    The hash is over names, dtypes, shapes and values, so a model has the same hash in memory, in one file and in
    shards.

    Args:
        weights: The checkpoint.
        position: Its index among the snapshots, for the message; None for the base.

    Returns:
        A SHA-256 in hexadecimal.

    Raises:
        UserError: If a tensor holds NaN or infinity; names the checkpoint and the tensor.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu()
        if not is_finite(tensor):
            raise UserError(_broken(name, source_of(weights, position)))
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        for piece in pieces(tensor):
            digest.update(piece.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def blame(name: str, base: Mapping[str, Tensor], checkpoints: Mapping[int, Mapping[str, Tensor]]) -> str:
    """Return why a merged tensor is not finite: a broken input, or an overflow.

    Args:
        name: The tensor.
        base: θ_base.
        checkpoints: The snapshots that were mixed in, by index.
    """
    if not is_finite(base[name]):
        return _broken(name, source_of(base))
    for position, checkpoint in checkpoints.items():
        if not is_finite(checkpoint[name]):
            return _broken(name, source_of(checkpoint, position))
    return (
        f"Tensor '{name}' overflows {_dtype(base[name].dtype)} when merged. "
        "Merge with smaller weights, or save the checkpoints in a wider dtype."
    )


def layout_of(weights: Mapping[str, Tensor]) -> Layout:
    """Return the dtype and shape of every tensor, without reading a file's tensors."""
    if isinstance(weights, LazyWeights):
        return weights.layout
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in weights.items()}


def _words(layout: tuple[torch.dtype, tuple[int, ...]]) -> str:
    dtype, shape = layout
    return f"{_dtype(dtype)} {list(shape)}"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _broken(name: str, where: str) -> str:
    return (
        f"Tensor '{name}' of {where} holds NaN or infinity. "
        "Leave that checkpoint out, or train again from before it diverged."
    )


class Checked(Mapping[str, Tensor]):
    """A merge method's tensors, each checked against the base's when it is looked up.

    Args:
        made: What the method returned.
        base: θ_base.
        method: Name of the method, for messages.

    Raises:
        UserError: If names differ, or (at look-up) a tensor has another shape or dtype, or holds NaN or infinity.
    """

    def __init__(self, made: Mapping[str, Tensor], base: Mapping[str, Tensor], method: str) -> None:
        differing = sorted(set(made) ^ set(base))
        if differing:
            raise UserError(
                f"The merge method {method!r} and the base have different tensors: {differing[0]!r} is in one only.\n"
                "Return a tensor for each of the base's names."
            )
        self.made, self.base, self.method = made, base, method

    def __getitem__(self, name: str) -> Tensor:
        tensor, base = self.made[name], self.base[name]
        if (tensor.shape, tensor.dtype) != (base.shape, base.dtype):
            raise UserError(
                f"The merge method {self.method!r} gives {name!r} as {tensor.dtype} {list(tensor.shape)}, and the base "
                f"has {base.dtype} {list(base.shape)}.\nReturn the base's shapes and types."
            )
        if not is_finite(tensor):
            raise UserError(f"The merge method {self.method!r} gives {name!r} with NaN or infinity.\nMend the method.")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)
