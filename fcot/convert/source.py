"""Open the weights of a folder in either layout, and say exactly what is wrong with them before anything is written."""

import json
import pickle
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fcot.errors import UserError
from fcot.files.json_files import read_json
from fcot.files.weights import INDEX_FILE, SINGLE_FILE, Layout, LazyWeights

AGAIN = "Fetch the file again, or save the checkpoint again."


class PickledWeights(LazyWeights):
    """The tensors of `.bin` files, memory-mapped one at a time and read as weights only."""

    def _layout(self, file: Path) -> Layout:
        return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in _unpickled(file).items()}

    def _read(self, file: Path, name: str) -> Tensor:
        return _unpickled(file)[name]


FORMS = (
    (SINGLE_FILE, INDEX_FILE, LazyWeights),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", PickledWeights),
)


def open_checkpoint(folder: Path, expected: Iterable[str] = ()) -> LazyWeights:
    """Open the weights of a model folder, in safetensors or in `.bin` files, sharded or not.

    Args:
        folder: The model folder.
        expected: Names of its tensors, for a message about a file that names none itself.

    Raises:
        UserError: If a file is missing, cut short or of another kind; names the file and a tensor.
    """
    for single, index, kind in FORMS:
        if (folder / single).is_file():
            return _open(folder, kind, dict.fromkeys(expected, single), [folder / single])
        if (folder / index).is_file():
            promised = _promised(folder / index)
            files = [folder / name for name in dict.fromkeys(promised.values())]
            weights = _open(folder, kind, promised, files)
            for name, file in promised.items():
                if weights.file_of.get(name) != folder / file:
                    raise UserError(f"{folder / index} promises tensor {name!r} in {file}, which lacks it.\n{AGAIN}")
            return weights
    for single, index, _ in FORMS:
        shards = sorted(folder.glob(f"{Path(single).stem}-*-of-*{Path(single).suffix}"))
        if shards:
            raise UserError(
                f"{folder / index} is missing: it says which tensor is in {shards[0].name} and which in the others.\n"
                "Fetch that file into the folder."
            )
    raise UserError(
        f"There are no weights in {str(folder)!r}: neither {' nor '.join(single for single, *_ in FORMS)}, "
        "whole or in shards.\nFetch the whole folder; code (*.py) in a folder is never run."
    )


def check_tensors(
    weights: LazyWeights,
    names: Mapping[str, str],
    expected: Mapping[str, tuple[int, ...]],
    optional: str | None,
    config: Path,
) -> None:
    """Check that a checkpoint has the tensors its configuration asks for, and no others.

    Args:
        weights: The checkpoint.
        names: The checkpoint's name for each tensor's name in its layout.
        expected: Shapes of the tensors, by their names in the layout.
        optional: A tensor that may be missing.
        config: The configuration file, for messages.

    Raises:
        UserError: If one is unknown, missing or of another shape; names file and tensor.
    """
    for name, actual in names.items():
        file = weights.file_of[actual]
        if name not in expected:
            raise UserError(f"{file} holds tensor {actual!r}, which the model of {config} does not have.\n{AGAIN}")
        found = weights.layout[actual][1]
        if found != expected[name]:
            raise UserError(
                f"Tensor {actual!r} in {file} has shape {list(found)}, and {config} asks for {list(expected[name])}.\n"
                "Give weights and config.json of one and the same model."
            )
    for name in expected:
        if name not in names and name != optional:
            files = sorted({file.name for file in weights.file_of.values()})
            where = " … ".join(dict.fromkeys((*files[:1], *files[-1:]))) or "the file"
            raise UserError(f"{config} asks for tensor {name!r}, which {where} beside it lacks.\n{AGAIN}")


def _open(folder: Path, kind: type[LazyWeights], promised: Mapping[str, str], files: list[Path]) -> LazyWeights:
    for file in files:
        held = next((name for name, place in promised.items() if place == file.name), None)
        if not file.is_file():
            raise UserError(f"{file} is missing, with tensor {held!r} in it.\nFetch that file into the folder.")
        try:
            kind(folder, [file])
        except ValueError as error:
            cut = held if kind is PickledWeights else _first_cut(file) or held
            tensor = f", tensor {cut!r} for one cannot be read" if cut else ""
            raise UserError(f"{file} is cut short, or holds something else than weights{tensor}.\n{AGAIN}") from error
    try:
        return kind(folder, files)
    except ValueError as error:  # two files hold the same tensor
        raise UserError(str(error)) from error


def _promised(index: Path) -> dict[str, str]:
    promised = read_json(index).get("weight_map")
    if not isinstance(promised, dict) or not promised or not all(isinstance(file, str) for file in promised.values()):
        raise UserError(f"{index} has no weight_map from tensors to files.\n{AGAIN}")
    for name, file in promised.items():
        if Path(file).name != file:  # a folder's index does not lead out of it
            raise UserError(f"{index} promises tensor {name!r} in {file!r}, which is no file of its folder.\n{AGAIN}")
    return promised


def _first_cut(file: Path) -> str | None:
    """Return the first tensor that a safetensors file is too short for; None if none or its header is cut too."""
    with file.open("rb") as opened:
        length = opened.read(8)
        header = opened.read(min(struct.unpack("<Q", length)[0], file.stat().st_size)) if len(length) == 8 else b""
    held = file.stat().st_size - 8 - len(header)
    try:
        entries = json.loads(header).items()
        ends = sorted((entry["data_offsets"][1], name) for name, entry in entries if name != "__metadata__")
        return next((name for end, name in ends if end > held), None)
    except (ValueError, AttributeError, LookupError, TypeError):  # what is there is no header
        return None


def _unpickled(file: Path) -> dict[str, Tensor]:
    """Return the memory-mapped tensors of a `.bin` file; code in it is refused, never run."""
    try:
        content = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, ValueError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} cannot be read as weights only") from error
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise UserError(f"{file} holds more than named tensors")
    return content
