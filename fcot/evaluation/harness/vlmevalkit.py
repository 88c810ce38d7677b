"""Run VLMEvalKit with an fcot model: `python -m fcot.evaluation.harness.vlmevalkit FOLDER --data DocVQA_VAL …`.

VLMEvalKit has no plug-ins. This adds a model named "fcot" to its table and then runs its own `run.py`, whose further
options are passed on. Prompts are those of its InternVL2: text first, then `<image>`; tiles by benchmark.
"""

import functools
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.evaluation.benchmarks.benchmark import SHORT
from fcot.evaluation.benchmarks.options import with_options
from fcot.evaluation.harness import tiles_of
from fcot.evaluation.harness.asking import Answers, Question, picture_of
from fcot.evaluation.run.reader import Budget

LONGEST = 4096
NAME = "fcot"


def model_class() -> Any:
    """Return the class of the model, a subclass of VLMEvalKit's.

    Raises:
        UserError: If VLMEvalKit is not installed.
    """
    try:
        from vlmeval.vlm.base import BaseModel
    except ImportError as error:
        raise UserError(f"VLMEvalKit cannot be imported ({error}).\nInstall it from its repository.") from error

    class Fcot(BaseModel):  # type: ignore[misc]  # VLMEvalKit has no types
        """Answers VLMEvalKit's questions one at a time, as it asks them."""

        INTERLEAVE = True
        allowed_types: Sequence[str] = ("text", "image")

        def __init__(self, model_path: str) -> None:
            super().__init__()
            self.answers = Answers(Path(model_path), device="auto", dtype="auto", batch_size=1, batch_tokens=1)

        def use_custom_prompt(self, dataset: str | None) -> bool:
            """Return whether prompts are built here: for questions with an answer that is short or a letter."""
            from vlmeval.dataset import DATASET_TYPE

            return DATASET_TYPE(dataset) in ("VQA", "MCQ", "Y/N") and "MathVista" not in str(dataset)

        def build_prompt(self, line: Mapping[str, Any], dataset: str | None = None) -> list[dict[str, str]]:
            """Return text and pictures of a row."""
            message = [{"type": "text", "value": prompt_of(line, str(dataset))}]
            return message + [{"type": "image", "value": path} for path in self.dump_image(line, dataset)]

        def generate_inner(self, message: list[dict[str, str]], dataset: str | None = None) -> str:
            """Answer a message."""
            text = "\n".join(part["value"] for part in message if part["type"] == "text")
            pictures = [picture_of(part["value"], part["value"]) for part in message if part["type"] == "image"]
            budget = Budget(tiles_of(str(dataset)), LONGEST)
            return self.answers.to([Question(text, pictures, budget)])[0]

    return Fcot


def prompt_of(line: Mapping[str, Any], dataset: str) -> str:
    """Return the user's turn of a row, as VLMEvalKit's InternVL2 builds it."""
    question = str(line["question"])
    choices = {
        name: str(line[name]) for name in "ABCDEFGH" if name in line and line[name] == line[name] and line[name] != ""
    }
    if choices:
        hint = line.get("hint") if hasattr(line, "get") else None
        asked = f"{hint}\n{question}" if hint is not None and hint == hint and hint != "" else question
        return with_options(asked, choices, chinese=True)
    return f"{question}{' ' if dataset.startswith('MME') else chr(10)}{SHORT}"


def main(words: Sequence[str]) -> None:
    """Add the model to VLMEvalKit's table and run its `run.py`.

    Args:
        words: Folder of the model, then options of `run.py`.

    Raises:
        UserError: If the folder is missing or VLMEvalKit is not installed.
    """
    if not words or words[0].startswith("-"):
        raise UserError("The model folder is missing.\nWrite it first, then VLMEvalKit's options.")
    kind = model_class()
    import vlmeval
    from vlmeval.config import supported_VLM

    supported_VLM[NAME] = functools.partial(kind, model_path=words[0])
    package = Path(vlmeval.__file__).parent
    places = (package.parent / "run.py", package / "run.py")  # in a clone, and in a package made of it
    script = next((place for place in places if place.is_file()), None)
    if script is None:
        raise UserError(f"There is no {places[0]}.\nInstall VLMEvalKit from its repository with pip install -e.")
    sys.argv = [str(script), "--model", NAME, *words[1:]]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
