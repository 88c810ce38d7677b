"""Is every tensor of a model folder there, in the shape that its configuration says."""

from collections.abc import Iterator

import torch
from transformers import AutoModelForImageTextToText

from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.names import in_memory
from fcot.merge.tensors import open_weights


def missing_parts(folder: ModelFolder) -> list[str]:
    """Return a sentence for everything that is wrong with a folder's weights; only their headers are read.

    Args:
        folder: A native InternVL or a student.
    """
    try:
        weights = open_weights(folder.path)
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(folder.config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if folder.config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)  # the embeddings stand in for it
    found = {in_memory(name): shape for name, (_, shape) in weights.layout.items()}
    return [f"{folder.path}: {problem}." for problem in _differences(expected, found)]


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Yield what is missing, not known or of another shape, each kind in one phrase."""
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected and name != "lm_head.weight"]
    for names, phrase in ((missing, "tensors are missing"), (unknown, "tensors are not of this model")):
        if names:
            yield f"{len(names)} {phrase}, {names[0]!r} for one"
    for name, shape in expected.items():
        if name in found and found[name] != shape:
            yield f"tensor {name!r} has shape {list(found[name])}, and the configuration says {list(shape)}"
