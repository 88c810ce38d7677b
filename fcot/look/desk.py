"""What happens to the page's requests: pages are read and kept, questions answered in turn."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field, StringConstraints

from fcot.errors import nearest
from fcot.internvl.decode import MAX_PIXELS
from fcot.look.answers import Pictures, answer_all
from fcot.look.kept import Kept
from fcot.look.reader import Reader
from fcot.look.turns import Check, Turns
from fcot.look.uploaded import Uploaded, read_page
from fcot.serve.body import BODY_SECONDS, read_body
from fcot.serve.chat_request import Strict, parse
from fcot.serve.held_bytes import HeldBytes, Share
from fcot.serve.refusal import RefusalError

KINDS = ("image/png", "image/jpeg", "image/webp")
MAX_QUESTION = 4000  # characters
MAX_ASKED = 50_000  # bytes of the body of a question


@dataclass(frozen=True)
class Limits:
    """Bounds of what clients send and what is kept.

    Attributes:
        max_bytes: Most bytes of a picture's file.
        max_pixels: Most pixels of a picture.
        max_held: Most bytes of all files that are read or wait.
        max_pages: Most pages kept.
        max_looks: Most answers whose pictures are kept.
        max_kept: Most bytes of the pages kept, and of the pictures.
        max_waiting: Most requests of a kind under way.
        max_new_tokens: Longest answer in tokens.
        seconds: Longest time of a request.
    """

    max_bytes: int = 32_000_000
    max_pixels: int = MAX_PIXELS
    max_held: int = 128_000_000
    max_pages: int = 16
    max_looks: int = 64
    max_kept: int = 256_000_000
    max_waiting: int = 8
    max_new_tokens: int = 256
    seconds: float = 600.0


class Question(Strict):
    """The body of a question."""

    page: Annotated[str, StringConstraints(max_length=100)]
    question: Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUESTION, strip_whitespace=True)]
    models: Annotated[list[str], Field(min_length=1, max_length=64)] | None = None


class Desk:
    """Answers the page's requests.

    Args:
        readers: The models; others are compared with the first.
        limits: Bounds.
    """

    def __init__(self, readers: list[Reader], limits: Limits) -> None:
        self.readers, self.limits = {reader.name: reader for reader in readers}, limits
        self.pages = Kept[Uploaded]("page", limits.max_pages, limits.max_kept)
        self.looks = Kept[Pictures]("picture", limits.max_looks, limits.max_kept)
        self.held = HeldBytes(limits.max_held)
        self.reading = Turns(limits.max_waiting, limits.seconds)  # pages do not wait for answers
        self.answering = Turns(limits.max_waiting, limits.seconds)

    def models(self) -> dict[str, Any]:
        """Return what is said of the models, and the limits that a browser can keep to."""
        return {
            "models": [reader.described() for reader in self.readers.values()],
            "limits": {"bytes": self.limits.max_bytes, "kinds": KINDS, "question": MAX_QUESTION},
        }

    async def upload(self, request: Request) -> dict[str, Any]:
        """Read the picture of a page, and return what the models make of it."""
        share = Share(self.held)
        try:
            with self.reading.place() as end:
                body = await read_body(request, KINDS, self.limits.max_bytes, BODY_SECONDS, share)

                def job(_: Check) -> tuple[Uploaded, list[dict[str, Any]]]:
                    page = read_page(body, [*self.readers.values()], self.limits.max_pixels)
                    return page, [reader.seen(page.cut_of(reader)) for reader in self.readers.values()]

                page, seen = await self.reading.run(request, end, job)
        finally:
            share.release()
        name = self.pages.add(page, page.num_bytes)
        return {"page": name, "size": page.size, "models": seen}

    async def ask(self, request: Request) -> dict[str, Any]:
        """Let models answer a question, and return their answers."""
        share = Share(self.held)
        try:
            with self.answering.place() as end:
                body = await read_body(request, ("application/json",), MAX_ASKED, BODY_SECONDS, share)
                asked = parse(body, Question)
                page, readers = self.pages.get(asked.page), self._chosen(asked.models)

                def job(check: Check) -> list[tuple[dict[str, Any], Pictures]]:
                    return answer_all(readers, page, asked.question, self.limits.max_new_tokens, check)

                found = await self.answering.run(request, end, job)
        finally:
            share.release()
        answers = []
        for answer, pictures in found:
            address = f"/looks/{self.looks.add(pictures, pictures.num_bytes)}"
            thumbnail = None if pictures.thumbnail is None else f"{address}/thumbnail"
            answers.append({**answer, "look": {"page": f"{address}/page", "thumbnail": thumbnail}})
        return {"question": asked.question, "answers": answers}

    def _chosen(self, names: list[str] | None) -> list[Reader]:
        """Return the models asked, in the order in which they were given to the command.

        Raises:
            RefusalError: If there is no such model.
        """
        for name in names or ():
            if name not in self.readers:
                near = nearest(name[:100], self.readers)
                raise RefusalError(404, f"There is no such model.{near}", "See /models for their names.")
        return [reader for name, reader in self.readers.items() if names is None or name in names]

    def close(self) -> None:
        """End what is under way."""
        self.reading.close()
        self.answering.close()
