"""An engine runs jobs and gives their results in order; which engine it is changes no byte of a set.

A job is a function and its arguments, all picklable, the first argument the file that it makes. It makes it whole or
not at all, and may run again: where a worker died, or where an earlier command was killed. The engines' own writers are
not used: Ray Data names its files at random, and leaves half of them after a failure.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self, TypeVar

from fcot.errors import UserError
from fcot.registry import Registry
from shards.engines.fitness import checked

T = TypeVar("T")
Job = tuple[Any, ...]

TRIES = 4  # of a job whose worker dies
SECONDS = 20.0  # until a cluster must have answered


class WorkerDiedError(RuntimeError):
    """The worker of a job died, each time it was tried."""


class Engine(ABC):
    """Runs jobs; a context manager.

    Args:
        address: Where the cluster is; None is this machine.
        workers: Processes on this machine (default: one a core).

    Raises:
        UserError: If they do not go together.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"--workers is {workers}.\nGive at least 1.")
        if address is not None and workers is not None:
            raise UserError(
                f"--workers is {workers}, and the cluster at {address} decides itself how many work at once.\n"
                "Leave --workers out, or leave --address out to work on this machine."
            )
        self.address, self.workers = address, workers

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:  # noqa: B027 - an engine may have nothing to open
        """Connect, or start workers.

        Raises:
            UserError: If the engine is not installed, or its cluster does not answer.
        """

    def close(self) -> None:  # noqa: B027
        """Let go of everything that was opened."""

    def in_this_process(self, jobs: int) -> bool:
        """Return whether so many jobs run in the process of the command itself."""
        return False

    @abstractmethod
    def run(self, function: Callable[..., T], jobs: Sequence[Job]) -> Iterator[T]:
        """Yield the result of each job, in order; closed early, it starts no further job.

        Raises:
            WorkerDiedError: If the worker of the job whose result is next died, however often it was tried.
        """

    def map(
        self,
        function: Callable[..., T],
        jobs: Sequence[Job],
        *,
        token: Path | None = None,
        reads: Sequence[Path] = (),
    ) -> Iterator[T]:
        """Yield the result of each job, in order, as `concurrent.futures.Executor.map` does.

        Args:
            function: What each job calls.
            jobs: Arguments of each; the first one names the job in messages.
            token: File to write where the jobs write. A worker that does not find it there works on another disk, or
                for a command that was killed, and is refused; so is one with other versions of what makes a shard.
            reads: Files or folders that a worker must find too.

        Raises:
            UserError: If a worker is refused, or died however often a job was tried.
            Exception: What a job raised, with a note that names it.
        """
        done = 0
        # this process needs no proof, and on a disk without locks several may index a set at once
        plain = token is None or self.in_this_process(len(jobs))
        with nullcontext(function) if plain or token is None else checked(function, token, reads) as call:
            try:
                with closing(self.run(call, jobs)) as results:  # type: ignore[type-var]
                    for result in results:
                        done += 1
                        yield result
            except WorkerDiedError as error:
                raise UserError(
                    f"{jobs[done][0]}: its worker died {TRIES} times ({error}).\n"
                    "See whether its memory is enough, or take fewer workers or smaller shards; then run the same "
                    "command again."
                ) from error
            except Exception as error:
                error.add_note(f"Raised by the job of {jobs[done][0]}." if done < len(jobs) else "Raised by the jobs.")
                raise


ENGINES: Registry[type[Engine]] = Registry("engine", base=Engine, own=("address", "workers"))


@contextmanager
def executor(engine: str = "local", address: str | None = None, workers: int | None = None) -> Iterator[Engine]:
    """Open an engine, and close it at the end.

    Args:
        engine: Its name: local, ray, dask, or that of a plugin's subclass of `Engine`.
        address: Where its cluster is; None is this machine.
        workers: Processes on this machine (default: one a core).

    Raises:
        UserError: If there is no such engine, it is not installed, or its cluster does not answer.
    """
    with ENGINES[engine](address, workers) as opened:
        yield opened


def needed(module: str, extra: str) -> Any:
    """Import the library of an engine.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise UserError(
            f'--engine {extra} needs {module}, which is not installed.\nInstall it: pip install "fcot[{extra}]"'
        ) from error
