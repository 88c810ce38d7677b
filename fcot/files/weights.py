"""Read and write checkpoints one tensor at a time, so that a merge never holds a whole model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fcot.errors import UserError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_SHARD_BYTES = 2**30

Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def folder_sha256(folder: Path) -> str:
    """Return the hash of a model folder's configuration and weights."""
    digest = hashlib.sha256()
    for file in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


class LazyWeights(Mapping[str, Tensor]):
    """The tensors of a checkpoint, read from disk when they are asked for and not kept.

    A tensor is a private memory map of its file: reading it costs page cache, not memory, and the map goes
    when the tensor goes. Each look-up reads again, so keep the tensor rather than asking for it twice.

    Args:
        source: What the user called the checkpoint, for messages.
        files: The safetensors files that together hold the checkpoint.

    Attributes:
        layout: dtype and shape of every tensor, known without reading the tensors.
        file_of: The file that every tensor lies in.

    Raises:
        UserError: If a file is missing or not safetensors, or two files hold the same tensor.
    """

    def __init__(self, source: Path, files: Iterable[Path]) -> None:
        self.source = source
        self.layout: Layout = {}
        self.file_of: dict[str, Path] = {}
        for file in files:
            for name, dtype_and_shape in self._layout(file).items():
                if name in self.file_of:
                    raise UserError(
                        f"{source} holds tensor '{name}' in {self.file_of[name].name} and in {file.name}. "
                        "Save the checkpoint again."
                    )
                self.file_of[name] = file
                self.layout[name] = dtype_and_shape

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.file_of:
            raise KeyError(f"{self.source} has no tensor '{name}'; its tensors are the mapping's keys.")
        return self._read(self.file_of[name], name)

    def _layout(self, file: Path) -> Layout:
        layout: Layout = {}
        with _open(file) as opened:
            for name in opened.keys():  # noqa: SIM118 - a safetensors file is not a mapping
                tensor = opened.get_tensor(name)  # a memory map: nothing is read
                layout[name] = (tensor.dtype, tuple(tensor.shape))
        return layout

    def _read(self, file: Path, name: str) -> Tensor:
        # Opened per tensor: a file kept open would keep every page it ever touched in this process.
        with _open(file) as opened:
            tensor: Tensor = opened.get_tensor(name)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self.file_of

    def __iter__(self) -> Iterator[str]:
        return iter(self.file_of)

    def __len__(self) -> int:
        return len(self.file_of)

    def __repr__(self) -> str:
        return f"LazyWeights({str(self.source)!r}, {len(self)} tensors)"


def open_weights(path: str | Path) -> LazyWeights:
    """Open a checkpoint for reading tensor by tensor.

    Args:
        path: A `.safetensors` file, or a model folder with `model.safetensors` or, if it is sharded,
            `model.safetensors.index.json` and its shards.

    Returns:
        The checkpoint as a mapping from tensor name to tensor.

    Raises:
        UserError: If there is no checkpoint at `path`, a shard is missing, `path` is a file of another format, or the
            index disagrees with its shards.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no checkpoint at {path}.\nGive a .safetensors file or a model folder that exists.")
    if path.is_file():
        return LazyWeights(path, [path])
    if (path / SINGLE_FILE).is_file():
        return LazyWeights(path, [path / SINGLE_FILE])
    if (path / INDEX_FILE).is_file():
        return _open_sharded(path)
    raise UserError(
        f"Folder {path} holds neither {SINGLE_FILE} nor {INDEX_FILE}.\n"
        "Give a model folder saved as safetensors, or the .safetensors file itself."
    )


def write_weights(
    path: str | Path,
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str] | None = None,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a stream of tensors as safetensors, holding at most one shard of them.

    Args:
        path: A `.safetensors` file, for weights of at most one shard, or a folder, which gets
            `model.safetensors` or, above one shard, numbered shards and an index, as transformers does.
        tensors: Names and tensors, consumed once; tied tensors are written under each of their names.
        metadata: Text for the files' headers, `{"format": "pt"}` by default. With more than one entry the
            bytes of a file differ from run to run: safetensors does not order them.
        max_shard_bytes: The size in bytes a shard may reach; a larger tensor gets its own shard.

    Raises:
        UserError: If `path` is a file and the tensors need more than one shard.
    """
    path = Path(path)
    header = dict(metadata) if metadata is not None else {"format": "pt"}
    to_file = path.suffix == ".safetensors"
    folder = path.parent if to_file else path
    folder.mkdir(parents=True, exist_ok=True)
    written: list[tuple[Path, list[str], int]] = []
    shards = _shards(tensors, max_shard_bytes)
    while shard := next(shards, None):
        if to_file and written:
            written[0][0].unlink()
            raise UserError(
                f"The tensors for {path} need more than one shard of {max_shard_bytes} bytes. "
                "Give a folder, or a larger max_shard_bytes."
            )
        file = folder / f"{path.stem if to_file else 'model'}.shard-{len(written) + 1}"
        save_file(shard, file, metadata=header)
        file.chmod(0o644)  # safetensors lets only the owner read it
        written.append((file, list(shard), sum(tensor.nbytes for tensor in shard.values())))
        del shard  # so that only the next one is in memory while it is gathered
    if not written:
        raise UserError(f"There are no tensors to write to {path}. Give at least one.")
    if len(written) == 1:
        written[0][0].rename(path if to_file else path / SINGLE_FILE)
    else:
        _name_shards(folder, written)


def _shards(tensors: Iterable[tuple[str, Tensor]], max_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    storages: set[int] = set()
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > max_bytes:
            yield shard
            shard, storages, size = {}, set(), 0
        kept = tensor.detach().contiguous()
        if kept.untyped_storage().data_ptr() in storages:
            kept = kept.clone()  # safetensors refuses tensors that share memory
        storages.add(kept.untyped_storage().data_ptr())
        shard[name] = kept
        size += kept.nbytes
    if shard:
        yield shard


def _name_shards(folder: Path, written: list[tuple[Path, list[str], int]]) -> None:
    """Rename the shards as transformers does, with their number in each name, and write the index."""
    weight_map: dict[str, str] = {}
    for number, (file, names, _) in enumerate(written, start=1):
        final = f"model-{number:05d}-of-{len(written):05d}.safetensors"
        file.rename(folder / final)
        weight_map.update(dict.fromkeys(names, final))
    index = {"metadata": {"total_size": sum(size for _, _, size in written)}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _open_sharded(folder: Path) -> LazyWeights:
    index = folder / INDEX_FILE
    try:
        weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = [folder / name for name in dict.fromkeys(weight_map.values())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not a safetensors index ({error!r}). Save the checkpoint again.") from None
    weights = LazyWeights(folder, files)
    for name, file in weight_map.items():
        if name not in weights:
            raise UserError(f"{index} promises tensor '{name}' in {file}, which lacks it. Save it again.")
    return weights


def _open(file: Path) -> Any:
    if not file.is_file():
        raise UserError(f"Checkpoint file {file} is missing.\nCopy it there or save the checkpoint again.")
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise UserError(
            f"{file} is not a complete safetensors file ({error}). Save the checkpoint again as safetensors."
        ) from None
