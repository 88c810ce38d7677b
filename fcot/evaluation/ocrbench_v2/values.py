"""Key information as dictionaries."""

import ast
import json
import re
from itertools import product
from typing import Any

from fcot.evaluation.ocrbench_v2.tables import FENCE

_PAIR = re.compile(r"""["']?([\w\s]+)["']?\s*[:=]\s*["']?([^\n,"'{}]+)["']?""")


def parsed(text: str) -> dict[Any, Any]:
    """Return the dictionary that a prediction writes, keys and values as text; an empty one if there is none."""
    fenced = FENCE.search(text)
    code = fenced[1].strip() if fenced else text.strip()
    value: Any
    try:
        value = json.loads(code)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(code)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            value = dict(_PAIR.findall(code))
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return {}
    return {key.strip(): str(each).strip() for key, each in value.items()}


def key_information(prediction: str, answer: Any) -> float:
    """Return the share of keys of either side whose values agree, for the best of the accepted combinations."""
    accepted = _accepted(answer)
    found = parsed(prediction)
    return max(
        (_agreement(found, dict(zip(accepted, each, strict=True))) for each in product(*accepted.values())), default=0.0
    )


def key_information_chinese(prediction: str, answer: str) -> float:
    """Return the same for Chinese answers, which are written as text."""
    accepted = {key: value if isinstance(value, list) else [value] for key, value in ast.literal_eval(answer).items()}
    found = parsed(prediction)
    return max(
        (_agreement(found, dict(zip(accepted, each, strict=True))) for each in product(*accepted.values())), default=0.0
    )


def _accepted(answer: Any) -> dict[str, Any]:
    """Return the accepted values of each key; a plain text in a dictionary is its letters, as the script has it."""
    if isinstance(answer, dict):
        return answer
    value: Any = str(answer).strip('"')
    for _ in range(2):
        if isinstance(value, str):
            value = _literal(value)
    if not isinstance(value, dict):
        return {"": []}
    return {key: each if isinstance(each, list) else [each] for key, each in value.items()}


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None


def _agreement(found: dict[Any, Any], right: dict[Any, Any]) -> float:
    keys = {*found, *right}
    if not keys:
        return 0.0
    same = sum(1 for key in keys if key in found and key in right and _fold(found[key]) == _fold(right[key]))
    return same / len(keys)


def _fold(value: Any) -> str:
    text: str = value.lower()  # a number among the answers stops the official script
    return text.strip().replace("\n", " ").replace(" ", "")
