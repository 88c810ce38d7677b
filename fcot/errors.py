"""Errors that speak to the user: what is wrong, and what to do about it."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something in the user's input is wrong: the message says what, and what to do.

    The command line shows it without a traceback. Any other exception is a fault of fcot's and keeps its own.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean …?" with the nearest known name, or the list of them if none is near."""
    names = {each.lower(): each for each in sorted(known)}
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {names[close[0]]!r}?"
    return f" Known: {', '.join(names.values())}."
