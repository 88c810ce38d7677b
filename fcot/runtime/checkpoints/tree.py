"""Nested state taken apart: tensors by name, and everything else as JSON that points to them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fcot.errors import UserError

TENSOR, PAIRS, TUPLE = "$tensor", "$pairs", "$tuple"
MARKS = {TENSOR, PAIRS, TUPLE}


def take_apart(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split nested state into JSON and tensors.

    Args:
        state: Dicts, lists and tuples of tensors, text, numbers, booleans and None.

    Returns:
        The state with each tensor replaced by its name, and the tensors by name: their path, "state_dict/weight".

    Raises:
        UserError: If there is anything else in it; nothing is pickled.
    """
    tensors: dict[str, Tensor] = {}
    return _plain(state, "", tensors), tensors


def _plain(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value if type(value) in (str, bool, int, float, type(None)) else _base(value)
    if isinstance(value, Tensor):
        name = path
        while name in tensors:  # keys may hold a slash
            name += "'"
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value) and not MARKS & set(value):
            return {key: _plain(item, _join(path, key), tensors) for key, item in value.items()}
        pairs = [[_plain(key, path, tensors), _plain(item, _join(path, key), tensors)] for key, item in value.items()]
        return {PAIRS: pairs}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, _join(path, place), tensors) for place, item in enumerate(value)]
        return {TUPLE: items} if isinstance(value, tuple) else items
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise UserError(
        f"{path!r} of a checkpoint is of type {kind}, which is not saved.\n"
        "Keep tensors, text, numbers, lists and dicts in the state_dict of a module or callback."
    )


def _base(value: Any) -> Any:
    """Return a value of a subclass, such as a numpy number, as the plain type that it equals."""
    base = next(kind for kind in (str, bool, int, float) if isinstance(value, kind))
    return base(value)


def _join(path: str, key: object) -> str:
    return f"{path}/{key}" if path else str(key)


def put_together(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the state that `take_apart` split.

    Raises:
        KeyError: If a tensor is missing.
    """
    if isinstance(plain, list):
        return [put_together(item, tensors) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if TENSOR in plain:
        return tensors[plain[TENSOR]]
    if TUPLE in plain:
        return tuple(put_together(item, tensors) for item in plain[TUPLE])
    if PAIRS in plain:
        return {put_together(key, tensors): put_together(item, tensors) for key, item in plain[PAIRS]}
    return {key: put_together(item, tensors) for key, item in plain.items()}
