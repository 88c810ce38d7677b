"""Processes of this machine."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from fcot.errors import UserError
from shards.engines.engine import TRIES, Engine, Job, WorkerDiedError

T = TypeVar("T")


class Local(Engine):
    """Processes of this machine; one worker is this process itself.

    Raises:
        UserError: If an address is given.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        if address is not None:
            raise UserError(
                f"--address is {address}, and the engine local works on this machine alone.\n"
                "Add --engine ray or --engine dask, or leave --address out."
            )
        super().__init__(None, workers)

    def in_this_process(self, jobs: int) -> bool:
        """Return whether there is one worker, or one job."""
        return min(self.workers or cores(), jobs) < 2

    def run(self, function: Callable[..., T], jobs: Sequence[Job]) -> Iterator[T]:
        """Yield the result of each job; if a process dies, others take over what is not done."""
        workers = min(self.workers or cores(), len(jobs))
        if self.in_this_process(len(jobs)):
            yield from (function(*job) for job in jobs)
            return
        done, tries = 0, 0
        while done < len(jobs):
            with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
                try:
                    for result in pool.map(function, *zip(*jobs[done:], strict=True)):
                        done, tries = done + 1, 0
                        yield result
                except BrokenProcessPool as error:
                    tries += 1
                    if tries == TRIES:
                        raise WorkerDiedError("killed, or out of memory; it or one beside it") from error


def cores() -> int:
    """Return how many cores this process may use, which SLURM and containers limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Let this worker end when the command is killed.

    It would take the jobs that are queued, and then wait for ever (https://github.com/python/cpython/issues/111873).
    """

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
