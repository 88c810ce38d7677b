"""Things that clients have sent or made, kept under a name that nobody can guess, within limits."""

import secrets
from typing import Generic, TypeVar

from fcot.serve.refusal import RefusalError

Thing = TypeVar("Thing")


class Kept(Generic[Thing]):
    """Keeps the newest of some things; of one thread.

    Args:
        what: What they are, in messages: "page".
        most: Most of them.
        most_bytes: Most bytes of all together; the newest is kept in any case, for its own limits bound it.
    """

    def __init__(self, what: str, most: int, most_bytes: int) -> None:
        self.what, self.most, self.most_bytes = what, most, most_bytes
        self._things: dict[str, tuple[Thing, int]] = {}  # used longest ago first

    @property
    def num_bytes(self) -> int:
        """How many bytes are kept."""
        return sum(size for _, size in self._things.values())

    def __len__(self) -> int:
        return len(self._things)

    def add(self, thing: Thing, num_bytes: int) -> str:
        """Keep a thing, and return its name; what was used longest ago may be dropped for it."""
        name = secrets.token_urlsafe(16)
        self._things[name] = thing, num_bytes
        while len(self) > 1 and (len(self) > self.most or self.num_bytes > self.most_bytes):
            del self._things[next(iter(self._things))]
        return name

    def get(self, name: str) -> Thing:
        """Return what has a name.

        Raises:
            RefusalError: If nothing has it, or has it any more.
        """
        if name not in self._things:
            raise RefusalError(404, f"There is no such {self.what}, or not any more.", "Give the page again.")
        self._things[name] = self._things.pop(name)
        return self._things[name][0]
