"""Which names would have been right: arguments of a class, classes for a key."""

import argparse
import inspect
import sys
import typing
from collections.abc import Iterator
from typing import Any


def imported(path: str) -> type | None:
    """Return a class by its path, if its module is imported."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def parameters(kind: type) -> Iterator[str]:
    """Yield names of a constructor's parameters, those of its bases included."""
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items():
                if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    yield name


def expected(key: str, owner: str, parser: argparse.ArgumentParser) -> Iterator[type]:
    """Yield the classes that a key's value may be a subclass of.

    Args:
        key: Dotted key.
        owner: Path of the class whose argument the key's last part is; "" for an option of the parser.
        parser: The verb's parser.
    """
    kind = imported(owner)
    if kind is not None:
        for base in kind.__mro__:
            hints = typing.get_type_hints(vars(base)["__init__"]) if "__init__" in vars(base) else {}
            yield from classes(hints.get(key.rpartition(".")[2]))
        return
    for action in parser._actions:
        if action.dest == key:
            yield from classes(getattr(action, "_typehint", None))


def classes(hint: Any) -> Iterator[type]:
    """Yield the classes in a type hint; of a callable, the class it returns."""
    if isinstance(hint, type):
        yield hint
    elif not isinstance(hint, list):
        for argument in typing.get_args(hint):
            yield from classes(argument)


def subclasses(base: type) -> Iterator[type]:
    """Yield the public subclasses of a class, at any depth."""
    if base.__module__ != "builtins":
        kinds: list[type] = base.__subclasses__()
        for kind in kinds:
            if not kind.__name__.startswith("_"):
                yield kind
            yield from subclasses(kind)
