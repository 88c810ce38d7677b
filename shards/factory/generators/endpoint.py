"""OpenAI-compatible endpoints as a generator: many requests at once, tried again until they are answered or refused."""

import asyncio
import hashlib
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from queue import SimpleQueue
from time import monotonic

import tenacity

from fcot.errors import UserError
from shards.factory.generators.address import Address
from shards.factory.generators.faults import RefusedError, TransientError
from shards.factory.leaving import EXIT_TRY_AGAIN
from shards.factory.requests import Request, Response

SECONDS = 30.0  # between messages about failed tries


class ImpatientError(Exception):
    """No server can be asked within the patience that is left."""


class Endpoints:
    """Draws texts from servers that speak OpenAI's chat completions.

    Requests of a page go to one server as long as it answers, for the sake of its caches; the next try goes to another
    one. The client itself tries nothing again. A server's `Retry-After` is obeyed, whatever its length; others are
    asked meanwhile.

    Args:
        urls: Base addresses, such as http://node1:8000/v1.
        model: Name of the model there.
        concurrency: Requests under way at a time.
        timeout: Seconds of a request.
        patience: Seconds without any answer before giving up.

    Raises:
        UserError: If no model is named.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        concurrency: int = 64,
        timeout: float = 600.0,
        patience: float = 1800.0,
    ) -> None:
        if not model:
            raise UserError(f"No model is named for {urls[0]}.\nGive its name there: --model NAME.")
        self.identity, self.name = f"endpoint {model}", model
        self.concurrency, self.patience = concurrency, patience
        self._faults: Counter[str] = Counter()
        self._last_answer, self._said = monotonic(), float("-inf")
        self._addresses = [Address(url, model, timeout) for url in dict.fromkeys(urls)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoints", daemon=True)
        self._thread.start()

    def faults(self) -> Mapping[str, int]:
        """Return how many failed tries there were, by class."""
        return dict(self._faults)

    def close(self) -> None:
        """End what is under way and close all connections."""

        async def close() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for address in self._addresses:
                await address.close()

        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def answers(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Response]]:
        """Answer requests as they are pulled, so many at a time.

        Raises:
            UserError: If a server says that nothing will ever be answered: a wrong key, address or model.
            SystemExit: With code 75 if patience ends.
        """
        done: SimpleQueue[tuple[Request, Future[Response]]] = SimpleQueue()
        under_way: set[Future[Response]] = set()
        self._last_answer, more = monotonic(), True
        try:
            while True:
                while more and len(under_way) < self.concurrency:
                    request = next(requests, None)
                    if request is None:
                        more = False
                        break
                    future = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)
                    under_way.add(future)
                    future.add_done_callback(lambda each, of=request: done.put((of, each)))  # type: ignore[misc]
                if not under_way:
                    return
                request, future = done.get()
                under_way.discard(future)
                yield request, self._result(future)
        finally:
            for future in under_way:
                future.cancel()

    def _result(self, future: "Future[Response]") -> Response:
        try:
            return future.result()
        except ImpatientError as error:
            print(f"{error}; what was answered is kept.", file=sys.stderr, flush=True)
            raise SystemExit(EXIT_TRY_AGAIN) from error

    async def _answer(self, request: Request) -> Response:
        """Try until there is an answer; tenacity is the only one who tries again."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=self._pause,
            stop=lambda state: monotonic() - self._last_answer > self.patience,
        )
        try:
            response: Response = await retrying(self._try, request, count())
        except RefusedError as error:
            self._faults[error.kind] += 1
            response = Response(request.id, model=self.name, refused=str(error))
        except tenacity.RetryError as error:
            kind = error.last_attempt.exception()
            raise ImpatientError(f"No endpoint has answered for {self.patience:.0f} s ({kind})") from error
        self._last_answer = monotonic()
        return response

    _backoff = tenacity.wait_exponential(multiplier=0.5, max=30.0) + tenacity.wait_random(0.0, 0.5)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Return how long a request waits: not at all where its server rests, since another may answer."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TransientError) and (error.rest is not None or error.kind == "connection"):
            return 0.0
        return float(self._backoff(state))

    async def _try(self, request: Request, tries: "count[int]") -> Response:
        address = await self._awake(request.key, next(tries))
        try:
            return await address.ask(request)
        except TransientError as error:
            self._faults[error.kind] += 1
            self._say(address, error)
            raise

    async def _awake(self, key: str, tries: int) -> Address:
        """Return a server that does not rest: for a first try of one page the same as long as it can be.

        Raises:
            ImpatientError: If all ask to be left alone for longer than patience lasts.
        """
        while True:
            now = monotonic()
            awake = [each for each in self._addresses if each.rests_until <= now]
            if awake:
                awake.sort(key=lambda each: hashlib.sha256(f"{each.url} {key}".encode()).digest())
                return awake[tries % len(awake)]
            asked = min(each.asked_until for each in self._addresses)
            if asked > max(now, self._last_answer + self.patience):
                raise ImpatientError(
                    f"Every endpoint asks for {asked - now:.0f} s of rest, "
                    f"and patience ends after {self.patience:.0f} s"
                )
            await asyncio.sleep(min(each.rests_until for each in self._addresses) - now)

    def _say(self, address: Address, error: TransientError) -> None:
        """Say what goes wrong, now and then."""
        if monotonic() - self._said >= SECONDS:
            self._said = monotonic()
            rest = f", and asks for {error.rest:.0f} s of rest" if error.rest else ""
            print(f"{address.url}: {error}{rest}; asked again", file=sys.stderr, flush=True)
