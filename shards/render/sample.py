"""A drawn page, or none, with its questions and answers."""

import io
import json
from dataclasses import dataclass

from PIL import Image

from fcot.internvl.prompts import IMAGE


@dataclass(frozen=True)
class Sample:
    """One page and what should be said of it, or a conversation without one.

    Attributes:
        image: The page; None for typed text alone.
        question: What is asked.
        answer: What a perfect reader answers.
        task: Name of the task, such as "table".
        source: The document or table it was drawn from.
        earlier: Questions and answers that come before, in one conversation.
    """

    image: Image.Image | None
    question: str
    answer: str
    task: str
    source: str
    earlier: tuple[tuple[str, str], ...] = ()

    def members(self, key: str) -> dict[str, str | bytes]:
        """Return the sample in the canonical shard form: `__key__`, `json`, and `png` if there is a page."""
        turns = []
        for question, answer in (*self.earlier, (self.question, self.answer)):
            turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        drawn = {}
        if self.image is not None:
            turns[0]["value"] = f"{IMAGE}\n{turns[0]['value']}"
            buffer = io.BytesIO()
            self.image.save(buffer, format="PNG", compress_level=1)
            drawn["png"] = buffer.getvalue()
        conversation = {
            "conversations": turns,
            "task": self.task,
            "source": self.source,
        }
        return {"__key__": key, **drawn, "json": json.dumps(conversation).encode()}
