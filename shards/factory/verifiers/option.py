"""Options of a choice."""

import re
from collections.abc import Sequence

from shards.factory.verifiers.text import folded
from shards.factory.verifiers.verifier import Task, Verifier

_DRESS = re.compile(r"\b(?:the|correct|right|best|option|choice|letter|answer|is)\b", re.IGNORECASE)
_LEADING = re.compile(r"^[\s(\[*]*([A-Za-z])[\s)\]*]*(?:[.):,]|$)\s*(.*)$", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}")
_JOINED = re.compile(r"\s*(?:,|;|&|\band\b)\s*", re.IGNORECASE)


class Choice(Verifier):
    """The letter of the known option in any dress, or its text; both must fit each other."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether the same options are named."""
        one, other = self.letters(said, task), self.letters(str(truth), task)
        return one is not None and one == other

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether there is a known answer."""
        return isinstance(truth, str) and bool(truth.strip())

    def letters(self, text: str, task: Task) -> frozenset[str] | None:
        """Return the letters of the options that a text names, None if it names none or contradicts itself."""
        known = [chr(ord("A") + number) for number in range(len(task.options))]
        by_text = {folded(option): letter for letter, option in zip(known, task.options, strict=True)}
        if (letter := by_text.get(folded(text))) is not None:
            return frozenset(letter)
        bare = _DRESS.sub(" ", _TEXT.sub(r"\1", text)).strip(" \n.*:")
        if (letter := by_text.get(folded(bare))) is not None:
            return frozenset(letter)
        if bare.isdecimal() and len(bare) < 3 and 1 <= int(bare) <= len(known):
            return frozenset(known[int(bare) - 1])
        parts = [part.strip(" ()[].*") for part in _JOINED.split(bare)]
        if all(len(part) == 1 and part.upper() in known for part in parts):
            return frozenset(part.upper() for part in parts)
        if (found := _LEADING.match(bare)) and found[1].upper() in known:
            rest = folded(found[2])
            if not rest or by_text.get(rest) == found[1].upper():
                return frozenset(found[1].upper())
        return None
