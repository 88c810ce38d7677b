"""Find a member of a kind by its short name, and the options that a user may give it."""

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

from fcot.errors import UserError, nearest

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Mapping[str, T], Generic[T]):
    """Members of a kind by short name, in the order in which they were added.

    A member is a class or a function; its short name is its own in snake case. Subclasses of `base`, also those of
    plugins, are members as soon as they are imported, unless they say `listed = False`; functions are added by
    `@registry.add`.

    Args:
        kind: What a member is called in messages, such as "compressor".
        base: Class whose subclasses are members; None for functions.
        own: Parameters that fcot itself passes to a member; the others are the user's options.
    """

    def __init__(self, kind: str, *, base: type | None = None, own: Collection[str] = ()) -> None:
        self.kind, self.base, self.own = kind, base, frozenset(own)
        self._added: dict[str, T] = {}

    def add(self, member: T) -> T:
        """Add a member; for use as a decorator.

        Raises:
            ValueError: If another member has its name.
        """
        name = snake_case(member.__name__)
        other = self._added.setdefault(name, member)
        if other is not member and other.__module__ != member.__module__:
            raise ValueError(f"Two {self.kind}s are called {name!r}, in {other.__module__} and {member.__module__}.")
        self._added[name] = member
        return member

    def _members(self) -> dict[str, T]:
        found = dict(self._added)
        pending: list[Any] = [] if self.base is None else list(self.base.__subclasses__())
        classes: dict[str, Any] = {}
        while pending:
            member = pending.pop()
            pending.extend(member.__subclasses__())
            if not inspect.isabstract(member) and vars(member).get("listed", True):
                classes[snake_case(member.__name__)] = member
        return found | dict(sorted(classes.items()))

    def __getitem__(self, name: str) -> T:
        members = self._members()
        if name not in members:
            raise UserError(f"There is no {self.kind} {name!r}.{nearest(name, members)}")
        return members[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __len__(self) -> int:
        return len(self._members())

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the parameters of a member that a user may set, from its signature.

        Raises:
            UserError: If there is no such member.
        """
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = inspect.signature(self[name]).parameters.values()
        return {each.name: each for each in parameters if each.kind in named and each.name not in self.own}

    def check_options(self, name: str, given: Mapping[str, Any]) -> None:
        """Check that a member takes the options a user gave, and has all it needs.

        Raises:
            UserError: If there is no such member, it has no such option, or one without a default is missing.
        """
        known = self.options(name)
        for option in given:
            if option not in known:
                hint = nearest(option, known) if known else f" {name} has none."
                raise UserError(f"The {self.kind} {name!r} has no option {option!r}.{hint}")
        for option, parameter in known.items():
            if parameter.default is inspect.Parameter.empty and option not in given:
                raise UserError(f"The {self.kind} {name!r} needs the option {option!r}.\nGive it a value.")


def snake_case(name: str) -> str:
    """Turn "VQAAccuracy" into "vqa_accuracy", "Conv2d" into "conv2d"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
