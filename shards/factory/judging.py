"""Judge responses in processes that can be killed: a rule that hangs or dies on a text loses that text alone."""

import resource
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessPool

from shards.factory.kinds.kind import Form, Judged, Kind
from shards.factory.question import Known
from shards.factory.requests import Response
from shards.factory.verifiers.judge import Verdict

SECONDS = 10.0  # of a response; the clock starts in the worker
MEMORY = 4 * 2**30  # bytes of a worker
AHEAD = 64  # questions waiting for each worker
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


class Judges:
    """Processes that judge; a context manager.

    Args:
        kind: What is made.
        workers: Their number.
        seconds: Longest time of a response.
        memory: Most bytes of a process.
    """

    def __init__(self, kind: Kind, workers: int, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.kind, self.workers, self.seconds = kind, workers, seconds
        self.pool = ProcessPool(workers, initializer=begin, initargs=[kind, memory], context=get_context("spawn"))

    def __enter__(self) -> "Judges":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.stop()  # type: ignore[no-untyped-call]
        self.pool.join()

    def judge(self, cases: Iterable[Case]) -> Iterator[list[Judged]]:
        """Yield what was found of each case's responses, in the order of the cases."""
        waiting: deque[tuple[Case, Future[list[Judged]]]] = deque()
        for case in cases:
            waiting.append((case, self._schedule(case)))
            if len(waiting) >= AHEAD * self.workers:
                yield self._result(*waiting.popleft())
        while waiting:
            yield self._result(*waiting.popleft())

    def _schedule(self, case: Case) -> "Future[list[Judged]]":
        future: Future[list[Judged]] = self.pool.schedule(
            judge_case, args=[case], timeout=self.seconds * max(1, len(case.responses))
        )
        return future

    def _result(self, case: Case, future: "Future[list[Judged]]") -> list[Judged]:
        try:
            return future.result()
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
                return self._schedule(case).result()[0]
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
