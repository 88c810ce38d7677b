"""A student's model folder, on disk whole or not at all."""

from pathlib import Path

from transformers import InternVLForConditionalGeneration

from fcot.student import save_student
from fcot.whole_folder import Kind, prepare_output, whole_folder

MODEL = Kind("a model", "config.json")


def save_whole_student(model: InternVLForConditionalGeneration, folder: Path, source: Path) -> None:
    """Write a model folder as `save_student` does; a model that is already there makes way for the whole new one.

    Args:
        model: The student (or a native InternVL).
        folder: Where to write.
        source: Folder the tokenizer, preprocessing and generation files are copied from.

    Raises:
        FileExistsError: If something else than a model is at `folder`.
    """
    prepare_output(folder, MODEL, overwrite=True)
    with whole_folder(folder, MODEL) as partial:
        save_student(model, partial, source)
