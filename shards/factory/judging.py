"""Judge responses in processes that can be killed: a rule that hangs or dies on a text loses that text alone."""

import resource
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessPool

from fcot.errors import UserError
from shards.factory.kinds.kind import Form, Judged, Kind
from shards.factory.question import Known
from shards.factory.requests import Response
from shards.factory.verifiers.judge import Verdict

SECONDS = 10.0  # of a response; the clock starts in the worker
MEMORY = 4 * 2**30  # bytes of a worker
AHEAD = 64  # questions waiting for each worker
POLL_SECONDS = 1.0  # between looks at whether a pool is broken
MOST_BREAKS = 5  # of pools, one after the other, that judged nothing
HUNG, DIED, FAILED = "its verifier took too long", "its verifier's process died", "its verifier failed"


@dataclass(frozen=True)
class Case:
    """A question and what came back.

    Attributes:
        known: The question.
        responses: By request.
        form: What known answers of the task look like.
        other: Another question of the task.
    """

    known: Known
    responses: Sequence[Response]
    form: Form
    other: Known | None


Scheduled = tuple[ProcessPool, "Future[list[Judged]]"]


class Judges:
    """Processes that judge; a context manager.

    Args:
        kind: What is made.
        workers: Their number.
        seconds: Longest time of a response.
        memory: Most bytes of a process.
    """

    def __init__(self, kind: Kind, workers: int, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.kind, self.workers, self.seconds, self.memory = kind, workers, seconds, memory
        self.pool, self._breaks = self._new_pool(), 0

    def _new_pool(self) -> ProcessPool:
        begun = [self.kind, self.memory]
        return ProcessPool(self.workers, initializer=begin, initargs=begun, context=get_context("spawn"))

    def __enter__(self) -> "Judges":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.stop()  # type: ignore[no-untyped-call]
        self.pool.join()

    def judge(self, cases: Iterable[Case]) -> Iterator[list[Judged]]:
        """Yield what was found of each case's responses, in the order of the cases.

        Raises:
            UserError: If no process lives long enough to judge.
        """
        waiting: deque[tuple[Case, Scheduled]] = deque()
        for case in cases:
            waiting.append((case, self._schedule(case)))
            if len(waiting) >= AHEAD * self.workers:
                yield self._result(*waiting.popleft())
        while waiting:
            yield self._result(*waiting.popleft())

    def _schedule(self, case: Case) -> Scheduled:
        while True:
            with suppress(RuntimeError):  # the pool is broken
                seconds = self.seconds * max(1, len(case.responses))
                return self.pool, self.pool.schedule(judge_case, args=[case], timeout=seconds)
            self._renew()

    def _renew(self) -> None:
        """Replace a broken pool: pebble gives up where a process dies that has nothing to do."""
        self._breaks += 1
        if self._breaks > MOST_BREAKS:
            raise UserError(
                "The processes that judge end before they judge anything; what they print stands above.\n"
                "See that there is memory for them, and that they can import what a verifier needs."
            )
        self.pool.stop()  # type: ignore[no-untyped-call]
        self.pool.join()
        self.pool = self._new_pool()

    def _outcome(self, case: Case, scheduled: Scheduled) -> list[Judged]:
        """Return what a process found, however many pools that takes.

        Raises:
            TimeoutError: If judging took too long.
            ProcessExpired: If the process died of it.
        """
        while True:
            pool, future = scheduled
            wait([future], POLL_SECONDS)
            if not future.done() and pool is self.pool and pool.active:
                continue
            if future.done() and not isinstance(future.exception(), BrokenProcessPool):
                self._breaks = 0
                return future.result()
            if pool is self.pool:
                self._renew()
            scheduled = self._schedule(case)

    def _result(self, case: Case, scheduled: Scheduled) -> list[Judged]:
        try:
            return self._outcome(case, scheduled)
        except (TimeoutError, ProcessExpired):
            pass  # which response it was, only asking for each alone tells
        if not self.kind.alone:
            return [self._last_try(case)] * len(case.responses)
        alone = (Case(case.known, [each], case.form, case.other) for each in case.responses)
        return [self._last_try(each) for each in alone]

    def _last_try(self, case: Case) -> Judged:
        """Judge once more; what fails again is rejected by name."""
        verifier = type(self.kind.verifier(case.known.task)).__name__
        for _ in range(2):
            try:
                return self._outcome(case, self._schedule(case))[0]
            except TimeoutError:
                return Judged(Verdict(False, f"{HUNG} ({verifier})"))
            except ProcessExpired:
                continue  # a process that was killed from outside says nothing about the text
        return Judged(Verdict(False, f"{DIED} ({verifier})"))


_KIND: list[Any] = []  # of this worker


def begin(kind: Kind, memory: int) -> None:
    """Set up a worker: its rules, and a limit to its memory."""
    _KIND[:] = [kind]
    with suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def judge_case(case: Case) -> list[Judged]:
    """Judge a case in a worker; an error in a rule rejects, by name."""
    kind: Kind = _KIND[0]
    try:
        return kind.judge(case.known, case.responses, case.form, case.other)
    except BaseException as error:  # that of a plugin may be any: SystemExit would end the command
        if kind.alone and len(case.responses) > 1:
            return [judge_case(Case(case.known, [each], case.form, case.other))[0] for each in case.responses]
        verifier = type(kind.verifier(case.known.task)).__name__
        return [Judged(Verdict(False, f"{FAILED} ({verifier}: {type(error).__name__})"))] * len(case.responses)
