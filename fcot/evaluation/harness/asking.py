"""Answer what a harness asks: text and pictures, in the order of its requests."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fcot.convert.auto_convert import native_folder
from fcot.errors import UserError
from fcot.evaluation.rows import Answer, Picture, Row
from fcot.evaluation.run.pages import survey
from fcot.evaluation.run.plan import batches
from fcot.evaluation.run.reader import Asked, Budget, Reader
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.shipped import shipped
from fcot.models.device import device_of


@dataclass(frozen=True)
class Question:
    """What a harness asks.

    Attributes:
        text: The user's turn.
        pictures: In order.
        budget: Tiles and lengths.
    """

    text: str
    pictures: Sequence[Picture]
    budget: Budget


class Answers:
    """A model that answers a harness.

    Args:
        folder: Its folder.
        device: Where to run.
        dtype: Type of the weights.
        batch_size: Most rows answered together.
        batch_tokens: Most tokens of a batch.
    """

    def __init__(self, folder: Path, *, device: str, dtype: str, batch_size: int, batch_tokens: int) -> None:
        self.reader = Reader(ModelFolder(native_folder(shipped(folder))), device=device_of(device), dtype=dtype)
        self.batch_size, self.batch_tokens = batch_size, batch_tokens

    def to(self, questions: Sequence[Question]) -> list[str]:
        """Return the answer to each question.

        Raises:
            UserError: If one cannot be asked; silence would be scored as an answer.
        """
        rows = {str(number): self._row(str(number), question) for number, question in enumerate(questions)}
        pages = survey(rows.values())
        asked = {name: Asked(row, questions[int(name)].text, pages[name]) for name, row in rows.items()}
        found: dict[str, Answer] = {}
        for budget in dict.fromkeys(question.budget for question in questions):
            its = [row for name, row in rows.items() if questions[int(name)].budget == budget]
            costs = {row.id: self.reader.cost(asked[row.id], budget) for row in its}
            plan = batches(its, pages, costs, batch_size=self.batch_size, budget=self.batch_tokens)
            for answers in self.reader.read(([asked[name] for name in ids] for ids in plan), budget):
                found |= {answer.id: answer for answer in answers}
        failed = next((answer for answer in found.values() if answer.failed), None)
        if failed is not None:
            raise UserError(f"Question {failed.id} cannot be asked: {failed.failed}.\nLeave its row out of the task.")
        return [found[name].text for name in rows]

    @staticmethod
    def _row(name: str, question: Question) -> Row:
        return Row(name, tuple(question.pictures), question.text, ())


def picture_of(image: Any, name: str) -> Picture:
    """Return a picture that a harness holds decoded, or as a file.

    Args:
        image: A Pillow image or a path.
        name: For messages.
    """
    if not isinstance(image, Image.Image):
        return Picture(str(image), Path(image).read_bytes)

    def read() -> bytes:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    return Picture(name, read)
