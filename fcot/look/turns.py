"""One job at a time on a thread of its own: a few wait, more are refused, and one whose client leaves is given up."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from fastapi import Request

from fcot.serve.refusal import RefusalError, closed, left, too_slow

Result = TypeVar("Result")
Check = Callable[[], None]  # raises if the job is to end


class Turns:
    """Runs jobs one after another.

    Args:
        most: Most requests whose job runs, waits or is being read.
        seconds: Longest time of a request.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds, self.under_way = most, seconds, 0
        self.closing = threading.Event()
        self.pool = ThreadPoolExecutor(1)

    @contextmanager
    def place(self) -> Iterator[float]:
        """Take a place, and give when it is over, in `time.monotonic`'s terms.

        Raises:
            RefusalError: If all are taken.
        """
        if self.under_way >= self.most:
            raise RefusalError(429, "Too many requests wait.", "Try again in a second.", retry_after=1)
        self.under_way += 1
        try:
            yield time.monotonic() + self.seconds
        finally:
            self.under_way -= 1

    async def run(self, request: Request, end: float, job: Callable[[Check], Result]) -> Result:
        """Run a job when its turn comes, and return its result.

        Args:
            request: Whose body has been read.
            end: When it is over.
            job: Is given a function to call often, which raises `RefusalError` when the job is to end.

        Raises:
            RefusalError: If time is over, the client has left or the server is ending.
        """
        gone = threading.Event()

        def check() -> None:
            if self.closing.is_set():
                raise closed()
            if gone.is_set():
                raise left()
            if time.monotonic() > end:
                raise too_slow()

        def checked() -> Result:
            check()
            return job(check)

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            gone.set()

        watching = asyncio.create_task(watch())
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, checked)
        finally:
            watching.cancel()
            gone.set()

    def close(self) -> None:
        """End the job that runs and those that wait."""
        self.closing.set()
        self.pool.shutdown()
