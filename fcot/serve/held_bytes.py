"""Bytes of requests that are read or wait, bounded for all of them together."""

import threading

from fcot.serve.refusal import RefusalError


class HeldBytes:
    """A limit that requests share; of several threads.

    Args:
        most: Most bytes; a single request may have more, for its own limits bound it.
    """

    def __init__(self, most: int) -> None:
        self.most, self.taken, self._lock = most, 0, threading.Lock()

    def change(self, before: int, after: int) -> None:
        """Change how much one request holds.

        Raises:
            RefusalError: If it wants more, and others hold too much.
        """
        with self._lock:
            others = self.taken - before
            if after > before and others and others + after > self.most:
                raise RefusalError(
                    429, "Too many bytes of requests are read or wait.", "Ask again in a second.", retry_after=1
                )
            self.taken = others + after


class Share:
    """What one request holds.

    Args:
        held: What all hold.
    """

    def __init__(self, held: HeldBytes) -> None:
        self._held, self._lock, self.size, self.over = held, threading.Lock(), 0, False

    def set(self, size: int) -> None:
        """Hold this many bytes instead.

        Raises:
            RefusalError: As `HeldBytes.change`.
        """
        with self._lock:
            if not self.over:
                self._held.change(self.size, size)
                self.size = size

    def release(self) -> None:
        """Hold nothing, now and later."""
        self.set(0)
        self.over = True
