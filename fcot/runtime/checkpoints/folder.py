"""A checkpoint on disk: a folder of tensors, plain state, and a manifest with the hash of each, written last.

    step-000500.ckpt/
      model.safetensors   tensors by their path in the state (several numbered files above 1 GiB)
      state.json          everything else
      manifest.json       sha256 of every tensor and of state.json

The folder is filled under another name, flushed to disk, and renamed: it is there whole or not at all.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fcot.errors import UserError
from fcot.files.atomic_folder import Kind, whole_folder
from fcot.files.weights import LazyWeights, open_weights, write_weights
from fcot.runtime.checkpoints.tree import put_together, take_apart

STATE, MANIFEST, SUFFIX = "state.json", "manifest.json", ".ckpt"
CHECKPOINT = Kind("a checkpoint", STATE)
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)


class DamagedCheckpoint(UserError):
    """A checkpoint is not what was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"Checkpoint {path} is damaged: {what}.\n"
            "Resume from another one; `--ckpt_path last` takes the newest that is whole."
        )
        self.what = what


def sha256_of(tensor: Tensor) -> str:
    """Return the hash of a tensor's values on the CPU."""
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all; one at the same path makes way once the new one is on disk.

    Args:
        state: Nested state; see `take_apart`.
        path: The folder to write.

    Raises:
        UserError: If it cannot be written, for example on a full disk, or holds a value that cannot be saved.
    """
    plain, tensors = take_apart(state)
    try:
        with whole_folder(path, CHECKPOINT) as folder:
            described: dict[str, dict[str, Any]] = {}
            if tensors:
                write_weights(folder, _described(tensors, described))
                for file in folder.glob("*.safetensors"):
                    file.chmod(0o644)  # safetensors makes files readable by their owner only
            (folder / STATE).write_text(json.dumps(plain), encoding="utf-8")
            files = {STATE: hashlib.sha256((folder / STATE).read_bytes()).hexdigest()}
            manifest = {"written": time.time_ns(), "files": files, "tensors": described}
            signed = {"sha256": _digest(manifest), "manifest": manifest}
            (folder / MANIFEST).write_text(json.dumps(signed, indent=1), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"Checkpoint {path} could not be written ({error}).\n"
            "The ones before it are kept. Make room or mend the folder, then resume with --ckpt_path last."
        ) from error


def _digest(manifest: Any) -> str:
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _described(tensors: Mapping[str, Tensor], described: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors on the CPU, one at a time, and note what each is."""
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        described[name] = {"sha256": sha256_of(here), "dtype": str(here.dtype), "shape": list(here.shape)}
        yield name, here


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; every byte is checked against the manifest, and nothing in it can run.

    Raises:
        UserError: If there is no checkpoint at the path.
        DamagedCheckpoint: If a file or tensor is missing or not what was written; it is named.
    """
    tensors = {name: tensor.clone() for name, tensor in _checked(path)}
    state: dict[str, Any] = put_together(json.loads((path / STATE).read_text(encoding="utf-8")), tensors)
    return state


def check(path: Path) -> None:
    """Read a checkpoint without keeping it; raises as `read_checkpoint`."""
    for _ in _checked(path):
        pass


def _checked(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a checkpoint once each is known to be what was written."""
    if not CHECKPOINT.is_at(path) and not (path / MANIFEST).is_file():
        raise UserError(
            f"{path} is no checkpoint of tensors and plain values that fcot wrote.\n"
            "Nothing in it was run. Give a folder step-….ckpt of a run, or `--ckpt_path last`."
        )
    if not (path / MANIFEST).is_file():
        raise DamagedCheckpoint(path, f"{MANIFEST} is missing, it was not written to its end")
    manifest = _manifest(path)
    files, tensors = manifest["files"], manifest["tensors"]
    for name, expected in files.items():
        if not (path / name).is_file():
            raise DamagedCheckpoint(path, f"{name} is missing")
        if hashlib.sha256((path / name).read_bytes()).hexdigest() != expected:
            raise DamagedCheckpoint(path, f"{name} has changed since it was written")
    weights: Mapping[str, Tensor] = _weights(path) if tensors else {}
    for name, expected in tensors.items():
        yield name, _tensor(path, weights, name, expected)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        signed = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        manifest: dict[str, Any] = signed["manifest"]
        same = signed["sha256"] == _digest(manifest)
    except UNREADABLE as error:
        raise DamagedCheckpoint(path, f"{MANIFEST} cannot be read ({error})") from error
    if not same:
        raise DamagedCheckpoint(path, f"{MANIFEST} has changed since it was written")
    return manifest


def _weights(path: Path) -> LazyWeights:
    try:
        return open_weights(path)
    except UNREADABLE as error:
        raise DamagedCheckpoint(path, f"its tensors cannot be opened ({error})") from error


def _tensor(path: Path, weights: Mapping[str, Tensor], name: str, expected: Mapping[str, Any]) -> Tensor:
    try:
        tensor = weights[name]
        same = (str(tensor.dtype), list(tensor.shape)) == (expected["dtype"], expected["shape"])
        same = same and sha256_of(tensor) == expected["sha256"]
    except UNREADABLE as error:
        raise DamagedCheckpoint(path, f"tensor {name!r} cannot be read ({error})") from error
    if not same:
        raise DamagedCheckpoint(path, f"tensor {name!r} has changed since it was written")
    return tensor


def by_age(*folders: Path) -> list[Path]:
    """Return the checkpoints in folders, the newest first."""
    return sorted((path for folder in folders for path in folder.glob(f"*{SUFFIX}")), key=_written, reverse=True)


def _written(path: Path) -> int:
    try:
        return int(_manifest(path)["written"])
    except (DamagedCheckpoint, OSError):
        return path.stat().st_mtime_ns


def put_back(folder: Path) -> None:
    """Put back the checkpoints that were making way for newer ones when their run was killed."""
    for aside in folder.glob(f"*{SUFFIX}.previous"):
        with suppress(OSError):  # another process may be faster
            if not aside.with_suffix("").exists():
                aside.rename(aside.with_suffix(""))


def newest_valid(
    *folders: Path,
    tell: Callable[[str], None] = print,
    resumable: Callable[[dict[str, Any]], bool] = lambda state: True,
) -> Path | None:
    """Return the newest checkpoint in folders that is whole and can be resumed from, None if there is none at all.

    Args:
        folders: Hold folders `*.ckpt`.
        tell: Takes a line about each one that is passed over.
        resumable: Whether a run can resume from a checkpoint, given its plain state; one of weights alone has no
            position in the data.

    Raises:
        DamagedCheckpoint: If all are damaged; starting from the beginning would not be resuming.
    """
    for folder in folders:
        put_back(folder)
    damaged: UserError | None = None
    for path in by_age(*folders):
        try:
            check(path)
        except UserError as error:
            tell(f"Passed over: {str(error).splitlines()[0]}")
            damaged = damaged or error
        else:
            if resumable(json.loads((path / STATE).read_text(encoding="utf-8"))):
                return path
            tell(f"Passed over: {path} does not say where in the data its run was.")
    if damaged is not None:
        raise damaged
    return None
