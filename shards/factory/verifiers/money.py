"""Sums of money."""

import re
from collections.abc import Sequence
from dataclasses import replace

from shards.factory.verifiers.number import Number
from shards.factory.verifiers.quantity import Quantity
from shards.factory.verifiers.verifier import Task

_COMMA = re.compile(r"(?<![\d,.])(\d{1,3}(?:\.\d{3})*|\d+),(\d{2})(?!\d)")


_IN_BRACKETS = re.compile(r"\s*\(\s*([^()]*\d[^()]*)\)\s*")
_CENTS = ("cent", "cents", "c", "pence", "penny", "p")


class Money(Number):
    """A sum equal to the known one; a currency on one side only is nothing."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether two sums are equal; a comma before two digits is a decimal one."""
        return super().agrees(_points(said), _points(str(truth)), task)

    def equal(self, said: Quantity, truth: Quantity, task: Task) -> bool:
        """Return whether two sums agree; cents are hundredths, and another word for a currency is another currency."""
        one, other = (_whole(each) for each in (said, truth))
        named = one.unit and not one.currency
        return not (named and other.currency) and super().equal(one, other, task)

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether the known answer is a sum."""
        return isinstance(truth, str) and super().usable(_points(truth))


def _whole(sum_: Quantity) -> Quantity:
    """Return a sum of cents as one of whole units."""
    return replace(sum_, value=sum_.value / 100, unit="") if sum_.unit in _CENTS else sum_


def _points(text: str) -> str:
    """Return a sum with a decimal point, and a minus where brackets say so."""
    if found := _IN_BRACKETS.fullmatch(text):
        text = f"-{found[1]}"
    return _COMMA.sub(lambda found: f"{found[1].replace('.', '')}.{found[2]}", text)
