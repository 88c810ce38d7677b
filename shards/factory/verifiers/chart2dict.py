"""A chart's values as a dictionary."""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from shards.factory.verifiers.chart_number import ChartNumber
from shards.factory.verifiers.quantity import plain, quantities, single
from shards.factory.verifiers.text import folded
from shards.factory.verifiers.verifier import Task, Verifier

_FENCE = re.compile(r"\s*```(?:python|json)?\s*\n(.*?)\n?```\s*", re.DOTALL)
_NAMED = re.compile(r"\s*[A-Za-z_]\w*\s*=\s*")


class Chart2dict(Verifier):
    """Every key once, none more; numbers as read off a chart, texts equal."""

    whole = True

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether two dictionaries agree."""
        one, other = dictionary(said), dictionary(str(truth))
        return bool(one) and bool(other) and _agree(one, other)

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether the known answer is a dictionary with keys."""
        return isinstance(truth, str) and bool(dictionary(truth))


def dictionary(text: str) -> dict[Any, Any] | None:
    """Return the dictionary that a text is, as a literal that is never run; None if it is none."""
    fenced = _FENCE.fullmatch(text)
    code = _NAMED.sub("", (fenced[1] if fenced else text).strip(), count=1)
    if not code.startswith("{"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(code)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        return value if (isinstance(value, dict) and len(value) == code.count(":")) or isinstance(value, dict) else None
    return None


def _agree(one: Any, other: Any) -> bool:
    if isinstance(other, dict):
        if not isinstance(one, dict) or len(one) != len(other):
            return False
        keys = {_key(key): value for key, value in one.items()}
        return len(keys) == len(one) and all(
            _key(key) in keys and _agree(keys[_key(key)], each) for key, each in other.items()
        )
    if isinstance(one, dict) or one is None:
        return False
    found, right = single(str(one)), single(str(other))
    if right is not None and not _words(str(other)):
        return (
            found is not None
            and not _words(str(one))
            and ChartNumber().equal(found, right, Task(str(other), question="value"))
        )
    return folded(str(one)) == folded(str(other))


def _key(key: Any) -> str:
    return folded(str(key))


def _words(text: str) -> bool:
    """Return whether a text says more than one quantity."""
    rest = plain(text)
    for each in reversed(list(quantities(rest))):
        rest = rest[: each.span[0]] + rest[each.span[1] :]
    return bool(rest.strip(" $€£¥%.,"))
