"""Write a student's model folder atomically."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import InternVLForConditionalGeneration

from fcot.files.atomic_folder import Kind, prepare_output, whole_folder
from fcot.models.sharded_tensors import gathered
from fcot.models.student import CompressedInternVL
from fcot.models.student_folder import save_student
from fcot.route import Router
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
    """Write a model folder as `save_student` does, atomically; a model that is already there is replaced.

    Args:
        model: The student (or a native InternVL).
        folder: Where to write.
        source: Folder from which tokenizer, preprocessing and generation files are copied.
        weights: Weights to save in place of the model's, by the names of its `state_dict`.
        max_tiles: Most tiles of an image in training (default: as in the source's files).

    Raises:
        UserError: If `folder` exists and is not a model.
    """
    prepare_output(folder, MODEL, overwrite=True)
    with whole_folder(folder, MODEL) as partial:
        save_student(model, partial, source, weights, max_tiles=max_tiles)


def save_with_router(
    model: CompressedInternVL, source: Path, folder: Path, settings: Mapping[str, Any], router: Router
) -> None:
    """Write an elastic student with a router, atomically; in place, files beside the model stay.

    Args:
        model: The student; it gets the router, too.
        source: Its folder.
        folder: Where to write, which may be the same.
        settings: Of the router, for the configuration.
        router: The learned one, which is left out if the settings are of a rule.
    """
    model.config.router = dict(settings)
    projector: Any = model.model.multi_modal_projector
    projector.set_router(settings)
    if projector.router is not None:
        projector.router.load_state_dict(router.state_dict())
        projector.router.to(projector.linear_1.weight.device)
    prepare_output(folder, MODEL, overwrite=True)
    with whole_folder(folder, MODEL) as partial:
        save_student(model, partial, source)
        for file in source.iterdir():
            if folder.resolve() == source.resolve() and file.is_file() and not (partial / file.name).exists():
                shutil.copyfile(file, partial / file.name)


def save_students(module: BaseTask, folders: Mapping[str, Path]) -> None:
    """Write every student of a module, on the first process; all must call this, as weights may be sharded.

    Args:
        module: A module in training.
        folders: Where to write each student, by branch.
    """
    for branch, student in module.pair.students().items():
        weights = gathered(student.state_dict().items(), keep=module.trainer.is_global_zero)
        if module.trainer.is_global_zero:
            save_whole_student(student, folders[branch], module.folder.path, weights, max_tiles=module.max_tiles)
