"""What a run has asked and spent, and when it stops."""

import sys
import time
from dataclasses import dataclass, field
from typing import NoReturn

from shards.factory.leaving import EXIT_TRY_AGAIN
from shards.factory.requests import Response

SECONDS = 30.0  # between lines of progress


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Attributes:
        budget: Most tokens of the set, prompts and answers together, those in the journals included; None for any.
        part: Which share of the source's shards, (number from 0, of how many).
        prompt_price: Of a million prompt tokens, in any currency.
        answer_price: Of a million answer tokens.
    """

    budget: int | None = None
    part: tuple[int, int] = (0, 1)
    prompt_price: float = 0.0
    answer_price: float = 0.0


@dataclass
class Meter:
    """Counts what was asked and spent, and says so now and then."""

    limits: Limits
    total: int = 0
    there: int = 0
    new: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    start: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def add(self, response: Response, *, new: bool) -> None:
        """Count a response."""
        self.there += 1
        self.new += new
        self.prompt_tokens += response.prompt_tokens
        self.answer_tokens += response.answer_tokens
        if new and time.monotonic() - self.said >= SECONDS:
            self.say()

    def say(self) -> None:
        """Print a line."""
        self.said = time.monotonic()
        spent = self.said - self.start
        rate = self.new / spent if spent else 0.0
        left = f", about {(self.total - self.there) / rate / 60:.0f} min left" if rate and self.total else ""
        print(f"{self.there} of {self.total} responses, {self.cost()}{left}", file=sys.stderr, flush=True)

    def cost(self) -> str:
        """Return tokens so far, and their price if one is known."""
        tokens = f"{self.prompt_tokens} prompt and {self.answer_tokens} answer tokens"
        price = (
            self.prompt_tokens * self.limits.prompt_price + self.answer_tokens * self.limits.answer_price
        ) / 1_000_000
        return f"{tokens}, {price:.2f} spent" if price else tokens

    @property
    def spent(self) -> bool:
        """Whether no further request may be sent."""
        return self.limits.budget is not None and self.prompt_tokens + self.answer_tokens >= self.limits.budget

    def stop(self) -> NoReturn:
        """Leave because the budget is spent.

        Raises:
            SystemExit: With code 75.
        """
        print(
            f"The budget of {self.limits.budget} tokens is spent ({self.cost()}); "
            f"{self.total - self.there} responses are not there yet.\nRaise --budget to go on.",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(EXIT_TRY_AGAIN)
