"""Write a checkpoint whose layout is known beforehand, holding one tensor at a time."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.files.weights import INDEX_FILE, MAX_SHARD_BYTES, SINGLE_FILE, Layout

# names of dtypes in the safetensors format
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def stream_weights(
    folder: Path, tensors: Mapping[str, Tensor], layout: Layout, *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write tensors as safetensors, each as soon as it is looked up; unlike `write_weights`, no shard is gathered.

    Args:
        folder: Gets `model.safetensors` or, above one shard, numbered shards and an index, as transformers has them.
        tensors: Is asked for each tensor once.
        layout: dtype and shape of every tensor.
        max_shard_bytes: The size in bytes a shard may reach; a larger tensor gets its own shard.

    Raises:
        UserError: If there are no tensors, one is not as the layout says, or safetensors has no such dtype.
    """
    if not layout:
        raise UserError(f"There are no tensors to write to {folder}. Give at least one.")
    for name, (dtype, _) in layout.items():
        if dtype not in DTYPES:
            raise UserError(f"Tensor '{name}' is {dtype}, which safetensors cannot hold.\nSave it as another dtype.")
    folder.mkdir(parents=True, exist_ok=True)
    shards = [*_shards(layout, max_shard_bytes)]
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    files = files if len(files) > 1 else [SINGLE_FILE]
    for file, names in zip(files, shards, strict=True):
        _write(folder / file, names, tensors, layout)
    if len(files) > 1:
        total = sum(_bytes(layout, name) for name in layout)
        weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(layout: Layout, max_bytes: int) -> Iterator[list[str]]:
    """Cut the names into shards, wide dtypes first, so that each tensor is aligned for readers that map it."""
    shard: list[str] = []
    size = 0
    for name in sorted(layout, key=lambda name: -layout[name][0].itemsize):
        if shard and size + _bytes(layout, name) > max_bytes:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += _bytes(layout, name)
    yield shard


def _write(file: Path, names: list[str], tensors: Mapping[str, Tensor], layout: Layout) -> None:
    ends = [0]
    for name in names:
        ends.append(ends[-1] + _bytes(layout, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name, span in zip(names, pairwise(ends), strict=True):
        dtype, shape = layout[name]
        header[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": list(span)}
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)  # the format's way to align what follows
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(said)) + said)
        for name in names:
            tensor = tensors[name].detach().cpu().contiguous()
            if (tensor.dtype, tuple(tensor.shape)) != layout[name]:
                raise UserError(
                    f"Tensor '{name}' is {tensor.dtype} {list(tensor.shape)}, and was to be {layout[name]}.\n"
                    "Write tensors of the layout that was given."
                )
            out.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
            del tensor  # so that the next one is in memory alone


def _bytes(layout: Layout, name: str) -> int:
    dtype, shape = layout[name]
    return dtype.itemsize * prod(shape)
