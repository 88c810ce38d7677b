"""What is asked of a generator, and what it gives."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fcot.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How a text is drawn; part of a request's id.

    Attributes:
        temperature: 0 always takes the likeliest token.
        top_p: Draw among the likeliest tokens whose probabilities add up to this.
        max_tokens: Longest text.
        seed: Another seed gives other texts.
        max_tiles: Most tiles of a page, where the generator cuts pages itself; None for its own.

    Raises:
        UserError: If a value is out of range.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int = 0
    max_tiles: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"--temperature is {self.temperature}.\nGive 0 for the likeliest text, or more.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top_p is {self.top_p}.\nGive a number above 0 and up to 1.")
        if self.max_tokens < 1:
            raise UserError(f"--max_tokens is {self.max_tokens}.\nGive at least 1.")


@dataclass(frozen=True)
class Request:
    """One text to be drawn.

    Attributes:
        id: Hash of all that the text depends on.
        key: Key of the sample, for messages.
        turns: The conversation in InternVL's form, without the answer; `<image>` stands for each picture.
        images: Extension and bytes of each picture.
        sampling: How to draw.
    """

    id: str
    key: str
    turns: Sequence[Mapping[str, str]]
    images: Sequence[tuple[str, bytes]] = field(repr=False)
    sampling: Sampling = Sampling()

    @property
    def seed(self) -> int:
        """Seed of this draw, 63 bits of the id: the same text whenever, wherever and beside whatever it is drawn."""
        return int(self.id[:16], 16) >> 1


@dataclass(frozen=True)
class Response:
    """What came back.

    Attributes:
        id: The request's.
        text: The text.
        finish_reason: "stop" where the model ended by itself.
        prompt_tokens: As the generator counts them.
        answer_tokens: As the generator counts them.
        model: As the generator reports it.
        seconds: How long it took.
        refused: Why the generator will not answer this request, however often it is asked; "" if it did.
    """

    id: str
    text: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    answer_tokens: int = 0
    model: str = ""
    seconds: float = 0.0
    refused: str = ""


class Generator(Protocol):
    """Draws texts: a model in this process, or endpoints.

    Attributes:
        identity: What the texts depend on beside the requests: a hash of weights, or the name of a model.
    """

    identity: str

    def answers(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Response]]:
        """Answer requests as they are pulled, in any order."""

    def faults(self) -> Mapping[str, int]:
        """Return how many failed tries there were, by class."""

    def close(self) -> None:
        """Let go of connections and memory."""


def request_id(**parts: Any) -> str:
    """Return the hash of everything a text depends on: where anything is different, so is the id."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
