"""Key information as dictionaries."""

import ast
import json
import re
from math import prod
from typing import Any

from fcot.evaluation.ocrbench_v2.crash import Crash
from fcot.evaluation.ocrbench_v2.tables import FENCE

# the possessive quantifiers change no match; without them a run of blanks takes the cube of its length
_PAIR = re.compile(r"""["']?([\w\s]++)["']?+\s*+[:=]\s*["']?([^\n,"'{}]+)["']?""")


def parsed(text: str) -> dict[Any, Any]:
    """Return the dictionary that a prediction writes, keys and values as text; an empty one if there is none.

    Raises:
        Crash: If a key is one that no dictionary can have, such as a list.
    """
    fenced = FENCE.search(text)
    code = fenced[1].strip() if fenced else text.strip()
    value: Any
    try:
        value = json.loads(code)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(code)
        except TypeError:
            raise Crash("a dictionary with a key that cannot be one") from None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = dict(_PAIR.findall(code))
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return {}
    return {key.strip(): str(each).strip() for key, each in value.items()}


def key_information(prediction: str, answer: Any) -> float:
    """Return the share of keys of either side whose values agree, for the best choice of accepted values."""
    return _best(parsed(prediction), accepted_values(answer))


def key_information_chinese(prediction: str, answer: str) -> float:
    """Return the same for Chinese answers, which are written as text."""
    return _best(parsed(prediction), accepted_values_chinese(answer))


def takes_none(accepted: dict[str, Any]) -> bool:
    """Return whether the official script goes on without a prediction: it stops if there is a choice of values."""
    return prod(len(values) for values in accepted.values()) <= 1


def accepted_values_chinese(answer: str) -> dict[str, Any]:
    """Return the accepted values of each key of an answer that is a dictionary written in Python."""
    return _listed(ast.literal_eval(answer))


def accepted_values(answer: Any) -> dict[str, Any]:
    """Return the accepted values of each key; a plain text in a dictionary is its letters, as the script has it."""
    if isinstance(answer, dict):
        return answer
    value: Any = str(answer).strip('"')
    for _ in range(2):
        if isinstance(value, str):
            value = _literal(value)
    if not isinstance(value, dict):
        return {"": []}
    return _listed(value)


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: each if isinstance(each, list) else [each] for key, each in values.items()}


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None


def _best(found: dict[Any, Any], accepted: dict[str, Any]) -> float:
    """Return the share for the best choice of one value for each key; 0 if a key has none to choose.

    Keys are independent, so the best choice is made key by key: combinations of them can be too many to try.
    """
    choices = {key: list(values) for key, values in accepted.items()}
    keys = {*found, *choices}
    if not keys or not all(choices.values()):
        return 0.0
    common = [key for key in choices if key in found]
    return sum(_fold(found[key]) in [_fold(each) for each in choices[key]] for key in common) / len(keys)


def _fold(value: Any) -> str:
    text: str = value.lower()  # a number among the answers stops the official script
    return text.strip().replace("\n", " ").replace(" ", "")
