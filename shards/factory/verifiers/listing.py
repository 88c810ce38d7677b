"""Lists, in any order or in the one that was asked for."""

import ast
import re
from collections import Counter
from collections.abc import Sequence

from shards.factory.verifiers.quantity import single
from shards.factory.verifiers.text import folded
from shards.factory.verifiers.verifier import Task, Verifier

_SIGNS = re.compile(r"\s*(?:>|<|→|->)\s*")


class List(Verifier):
    """The known items, each as often, in any order."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether both have the same items."""
        right = [item(each) for each in items_of(truth)]
        return any(Counter(map(item, each)) == Counter(right) for each in readings(said))

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether there are items."""
        return any(str(each).strip() for each in items_of(truth))


class OrderedList(List):
    """The known items in their order."""

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether both have the same items in the same order; "A < B" contradicts "longest first"."""
        if "<" in said and re.search(r"\b(?:longest|largest|highest|most|greatest|biggest)\b", task.question, re.I):
            return False
        if ">" in said and re.search(r"\b(?:smallest|shortest|lowest|least|fewest)\b", task.question, re.I):
            return False
        right = [item(each) for each in items_of(truth)]
        return any([item(each) for each in reading] == right for reading in readings(said))


def items_of(value: str | Sequence[str]) -> list[str]:
    """Return the items of a known answer."""
    return readings(value)[0] if isinstance(value, str) else [str(each) for each in value]


def readings(text: str) -> list[list[str]]:
    """Return the items that a text may list: at commas, and at the "and" before the last too."""
    text = text.strip().strip("*")
    text = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
    if text.startswith("["):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return [[text]]
        return [[str(each) for each in value]] if isinstance(value, list) else [[text]]
    if _SIGNS.search(text) and "," not in text:
        return [_SIGNS.split(text.rstrip("."))]
    at_commas = [each for each in re.split(r"\s*;\s*" if ";" in text else r"\s*[,\n]\s*", text.rstrip(".")) if each]
    *first, last = at_commas or [""]
    bare = re.sub(r"^(?:and|&)\s+", "", last)
    found = [[*first, bare]]
    if bare == last and (parts := re.split(r"\s+(?:and|&)\s+", last)) and len(parts) > 1:
        found.append([*first, *parts])
    return found


def item(text: str) -> object:
    """Return an item in the form in which items are compared: as a number where it is one."""
    quantity = single(text)
    number = quantity is not None and not quantity.unit and re.fullmatch(r"[\s\d.,+\-−%/]+", text)
    return quantity.value if quantity is not None and number else folded(text)
