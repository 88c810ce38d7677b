"""Check that every tensor of a model folder exists, has the configured shape, and is finite."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from fcot.convert.source import open_checkpoint
from fcot.errors import UserError
from fcot.files.finite import is_finite
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.names import in_memory

Shape = tuple[int, ...]


def missing_parts(folder: ModelFolder) -> list[str]:
    """Return one sentence for each problem with a folder's weights, of which only the headers are read.

    Args:
        folder: Folder of a native InternVL or of a student.
    """
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(folder.config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if folder.config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)  # the embeddings stand in for it
    try:
        weights = open_checkpoint(folder.path, expected)
    except UserError as error:
        return [str(error).replace("\n", " ")]
    found = {in_memory(name): (weights.file_of[name], shape) for name, (_, shape) in weights.layout.items()}
    return [f"{problem}." for problem in _differences(folder.path, expected, found)]


def require_parts(folder: ModelFolder) -> None:
    """Check a folder's weights before loading: transformers would fill a missing tensor with random values.

    Raises:
        UserError: If there is a problem; names file and tensor.
    """
    problems = missing_parts(folder)
    if problems:
        raise UserError("\n".join([*problems[:4], "Fetch the folder again, or save it again."]))


def require_numbers(model: nn.Module, folder: ModelFolder) -> None:
    """Check the weights of a loaded model.

    Raises:
        UserError: If a tensor has NaN or infinite values; names file and tensor.
    """
    for name, tensor in model.state_dict().items():
        if not is_finite(tensor):
            files = {in_memory(held): file for held, file in open_checkpoint(folder.path).file_of.items()}
            raise UserError(
                f"Tensor {name!r} in {files.get(name, folder.path)} holds NaN or infinity.\n"
                "Fetch the file again, or take a checkpoint from before training diverged."
            )


def _differences(folder: Path, expected: Mapping[str, Shape], found: Mapping[str, tuple[Path, Shape]]) -> Iterator[str]:
    """Yield one phrase for all missing tensors, one for all unknown ones, and one for each of another shape."""
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected and name != "lm_head.weight"]
    if missing:
        yield f"{folder}: {len(missing)} tensors are missing, such as {missing[0]!r}"
    if unknown:
        yield f"{found[unknown[0]][0]}: {len(unknown)} tensors do not belong to this model, such as {unknown[0]!r}"
    for name, shape in expected.items():
        if name in found and found[name][1] != shape:
            file, actual = found[name]
            yield f"{file}: tensor {name!r} has shape {list(actual)}, but the configuration requires {list(shape)}"
