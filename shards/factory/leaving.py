"""Leave in a way that the same command can go on from."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h, as in training


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Leave with code 75 at SIGTERM, between two lines of Python."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TRY_AGAIN)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread, whose business signals are
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
