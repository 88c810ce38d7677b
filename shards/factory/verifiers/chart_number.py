"""Values read off a chart."""

import re
from fractions import Fraction

from shards.factory.verifiers.number import Number
from shards.factory.verifiers.verifier import Task

TOLERANCE = Fraction(5, 100)
_ASKS_FOR_A_YEAR = re.compile(r"\b(?:year|when)\b", re.IGNORECASE)
_YEAR = re.compile(r"\s*(?:1\d{3}|20\d{2})\s*")


class ChartNumber(Number):
    """A number within five per cent of the known one, the bound included; years and zero are exact."""

    def close(self, said: Fraction, truth: Fraction, task: Task) -> bool:
        """Return whether a value is near enough."""
        year = isinstance(task.truth, str) and _YEAR.fullmatch(task.truth)
        if truth == 0 or (year and (not task.question or _ASKS_FOR_A_YEAR.search(task.question))):
            return said == truth
        return abs(said - truth) <= TOLERANCE * abs(truth)
