"""Errors of what is given: by the user, who is told what to do about it, and in a sample, which is counted."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_DETAIL = 500  # characters; a quoted sample may have megabytes


class UserError(ValueError):
    """Something in the user's input is wrong: the message says what, and what to do.

    The command line shows it without a traceback. Any other exception is a fault of fcot's and keeps its own.
    """


class SampleError(ValueError):
    """A sample cannot be used.

    Attributes:
        reason: A short name in snake case, for counting.
        id: What the sample calls itself, where that is known.
    """

    id: str | int | None = None

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail if len(detail) <= MAX_DETAIL else f"{detail[:MAX_DETAIL]}…")
        self.reason = reason


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean …?" with the nearest known name, or the list of them if none is near."""
    names = {each.lower(): each for each in sorted(known)}
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {names[close[0]]!r}?"
    return f" Known: {', '.join(names.values())}."
