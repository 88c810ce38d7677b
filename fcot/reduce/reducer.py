"""What training-free reducers have in common, and where they are found by name."""

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar

from fcot.errors import UserError
from fcot.registry import Registry


class Reducer(ABC):  # noqa: B024 - its two kinds say what is abstract
    """Drops or merges visual tokens of a model that was not trained for it.

    There are two kinds: `fcot.reduce.before.BeforeReducer` acts on the features of the vision tower, before the
    language model reads anything; `fcot.reduce.inside.InsideReducer` acts between two layers of the language model.
    The parameters of a subclass's constructor are its options.

    Attributes:
        scores: Values of its option `score`, if it has one.
    """

    scores: ClassVar[tuple[str, ...]] = ()


REDUCERS: Registry[type[Reducer]] = Registry("reducer", base=Reducer)


def reducer_of(name: str | None, options: Mapping[str, Any] | None = None) -> Any:
    """Return a reducer by its short name and options, None without a name.

    Raises:
        UserError: If there is no such reducer or option, a value is not allowed, or options come without a name.
    """
    if name is None:
        if options:
            raise UserError(f"Options {dict(options)} of a reducer are given, and no reducer.\nName one by --reduce.")
        return None
    REDUCERS.check_options(name, options or {})
    return REDUCERS[name](**(options or {}))
