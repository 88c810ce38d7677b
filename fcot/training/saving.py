"""A student's model folder, on disk whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import InternVLForConditionalGeneration

from fcot.files.atomic_folder import Kind, prepare_output, whole_folder
from fcot.models.sharded_tensors import gathered
from fcot.models.student import save_student
from fcot.training.base_task import BaseTask

MODEL = Kind("a model", "config.json")


def save_whole_student(
    model: InternVLForConditionalGeneration,
    folder: Path,
    source: Path,
    weights: Mapping[str, Tensor] | None = None,
    *,
    max_tiles: int | None = None,
) -> None:
    """Write a model folder as `save_student` does; a model that is already there makes way for the whole new one.

    Args:
        model: The student (or a native InternVL).
        folder: Where to write.
        source: Folder the tokenizer, preprocessing and generation files are copied from.
        weights: Other weights than the model's, by the names of its `state_dict`.
        max_tiles: Most tiles of an image that it was trained with (default: what the source's files say).

    Raises:
        UserError: If something else than a model is at `folder`.
    """
    prepare_output(folder, MODEL, overwrite=True)
    with whole_folder(folder, MODEL) as partial:
        save_student(model, partial, source, weights, max_tiles=max_tiles)


def save_students(module: BaseTask, folders: Mapping[str, Path]) -> None:
    """Write every student of a module, on the first process; all must call this, as weights may be shared out.

    Args:
        module: A module in training.
        folders: Where each goes, by its branch of a batch.
    """
    for branch, student in module.pair.students().items():
        weights = gathered(student.state_dict().items(), keep=module.trainer.is_global_zero)
        if module.trainer.is_global_zero:
            save_whole_student(student, folders[branch], module.folder.path, weights, max_tiles=module.max_tiles)
