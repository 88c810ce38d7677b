"""Yes or no, true or false."""

import re
from collections.abc import Sequence

from shards.factory.verifiers.verifier import Task, Verifier

_FIRST = re.compile(r"\W*(yes|no|true|false)\b", re.IGNORECASE)

_DECIDING = re.compile(r"\b(?:yes|no|true|false)\b", re.IGNORECASE)


class YesNo(Verifier):
    """The first word decides; true and false are not exchanged with yes and no."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether both say the same."""
        words = {word.lower() for word in _DECIDING.findall(said)}
        return len(words) == 1 and first_word(said) is not None and first_word(said) == first_word(str(truth))

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether the known answer decides."""
        return isinstance(truth, str) and first_word(truth) is not None


def first_word(text: str) -> str | None:
    """Return "yes", "no", "true" or "false", None if a text begins otherwise."""
    found = _FIRST.match(text)
    return found[1].lower() if found else None
