"""OpenAI-compatible endpoints as a generator: many requests at once, tried again until they are answered or refused."""

import asyncio
import base64
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import Any

import openai
import tenacity
from openai.types.chat import ChatCompletion

from fcot.errors import UserError
from fcot.internvl.prompts import IMAGE
from shards.factory.requests import Request, Response

TRY_AGAIN = (408, 409, 425, 429)
REFUSED = (400, 413, 422)
LONGEST_REST = 30.0  # seconds of an endpoint that cannot be reached
EXIT_TRY_AGAIN = 75
MIME = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class TransientError(Exception):
    """A try failed in a way that may pass.

    Attributes:
        kind: Class of the fault.
        rest: Seconds that the endpoint asked for, None if it did not.
    """

    def __init__(self, kind: str, rest: float | None = None) -> None:
        super().__init__(kind)
        self.kind, self.rest = kind, rest


class RefusedError(Exception):
    """The endpoint will not answer this request, however often it is asked."""


class Endpoints:
    """Draws texts from servers that speak OpenAI's chat completions.

    Requests of a page go to one endpoint as long as it answers, for the sake of its caches. The client itself tries
    nothing again. An endpoint's `Retry-After` is obeyed, whatever its length; others are asked meanwhile.

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
        self.urls, self.identity, self.name = list(urls), f"endpoint {model}", model
        self.concurrency, self.timeout, self.patience = concurrency, timeout, patience
        self._faults: Counter[str] = Counter()
        self._rests_until = dict.fromkeys(self.urls, 0.0)
        self._failures = dict.fromkeys(self.urls, 0)
        self._last_answer = monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoints", daemon=True)
        self._thread.start()
        self._clients = {
            url: openai.AsyncOpenAI(
                base_url=url,
                api_key=os.environ.get("OPENAI_API_KEY") or "none",
                max_retries=0,
                timeout=openai.Timeout(timeout, connect=min(10.0, timeout)),
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            )
            for url in self.urls
        }

    def faults(self) -> Mapping[str, int]:
        """Return how many failed tries there were, by class."""
        return dict(self._faults)

    def close(self) -> None:
        """Close all connections."""

        async def close() -> None:
            for client in self._clients.values():
                await client.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def answers(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Response]]:
        """Answer requests as they are pulled, so many at a time.

        Raises:
            UserError: If an endpoint says that nothing will ever be answered: a wrong key, address or model.
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
        except tenacity.RetryError as error:
            kind = error.last_attempt.exception()
            print(
                f"No endpoint has answered for {self.patience:.0f} s ({kind}); what was answered is kept.", flush=True
            )
            raise SystemExit(EXIT_TRY_AGAIN) from error

    async def _answer(self, request: Request) -> Response:
        """Try until there is an answer; tenacity is the only one who tries again."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=self._pause,
            stop=lambda state: monotonic() - self._last_answer > self.patience,
        )
        try:
            response: Response = await retrying(self._try, request)
        except RefusedError as error:
            response = Response(request.id, model=self.name, refused=str(error))
        self._last_answer = monotonic()
        return response

    _backoff = tenacity.wait_exponential_jitter(initial=0.5, max=30.0, jitter=0.5)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Return how long a request waits: not at all where the endpoint rests, since another may answer."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TransientError) and error.rest is not None:
            return 0.0
        return float(self._backoff(state))

    async def _try(self, request: Request) -> Response:
        url, start = await self._endpoint(request.key), perf_counter()
        try:
            found = await asyncio.wait_for(self._send(url, request), self.timeout)
        except TransientError as error:
            self._faults[error.kind] += 1
            if error.rest is not None:
                self._rests_until[url] = max(self._rests_until[url], monotonic() + error.rest)
            raise
        except TimeoutError as error:
            self._faults["timeout"] += 1
            raise TransientError("timeout") from error
        self._failures[url] = 0
        return self._response(request, found, perf_counter() - start)

    async def _endpoint(self, key: str) -> str:
        """Return an endpoint that does not rest: for one page the same as long as it can be; wait if all rest."""
        while True:
            now = monotonic()
            awake = [url for url in self.urls if self._rests_until[url] <= now]
            if awake:
                return max(awake, key=lambda url: hashlib.sha256(f"{url} {key}".encode()).digest())
            self._last_answer = max(self._last_answer, now - self.patience)
            await asyncio.sleep(max(0.01, min(self._rests_until.values()) - now))

    async def _send(self, url: str, request: Request) -> ChatCompletion:
        sampling = request.sampling
        try:
            found: Any = await self._clients[url].chat.completions.create(
                model=self.name,
                messages=messages(request),  # type: ignore[arg-type]
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                seed=request.seed,
            )
        except openai.APITimeoutError as error:
            raise TransientError("timeout") from error
        except openai.APIStatusError as error:
            raise self._status(url, error) from error
        except openai.APIConnectionError as error:
            self._failures[url] += 1
            raise TransientError("connection", min(LONGEST_REST, 0.5 * 2 ** min(self._failures[url], 8))) from error
        except (json.JSONDecodeError, openai.APIError) as error:  # a body that is cut, with a length that is right
            raise TransientError("no JSON") from error
        if not isinstance(found, ChatCompletion):
            raise TransientError("no JSON")  # openai returns the text of a page that is no JSON
        if not found.choices or found.choices[0].message is None:
            raise TransientError("no choices")  # an error object with status 200
        return found

    def _status(self, url: str, error: openai.APIStatusError) -> Exception:
        """Return what an HTTP status means."""
        status = error.status_code
        if status in TRY_AGAIN or status >= 500:
            return TransientError(f"status {status}", retry_after(error.response.headers))
        if status in REFUSED:
            self._faults[f"status {status}"] += 1
            return RefusedError(f"status {status}: {error.message[:200]}")
        advice = {401: "Set OPENAI_API_KEY to a valid key.", 403: "Set OPENAI_API_KEY to a key that may use the model."}
        there = error.response.headers.get("location", "")
        found = f", to {there}" if there else ""
        return UserError(
            f"{url} answers with status {status}{found}: {error.message[:200]}\n"
            + advice.get(status, f"Check the address, which as a rule ends in /v1, and the model's name {self.name!r}.")
        )

    def _response(self, request: Request, found: ChatCompletion, seconds: float) -> Response:
        choice, usage = found.choices[0], found.usage
        return Response(
            request.id,
            choice.message.content or "",
            str(choice.finish_reason or "unknown"),
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
            str(found.model or self.name),
            round(seconds, 4),
        )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response asks to wait, None if it does not."""
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


def messages(request: Request) -> list[dict[str, Any]]:
    """Return a conversation in OpenAI's form, each picture as a data URL in the place of its `<image>`."""
    pictures = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:{MIME[kind.lower()]};base64,{base64.b64encode(data).decode()}"},
        }
        for kind, data in request.images
    ]
    turns = [dict(turn) for turn in request.turns]
    if pictures and not any(IMAGE in turn["value"] for turn in turns):
        turns[0]["value"] = f"{IMAGE}\n" * len(pictures) + turns[0]["value"]
    found: list[dict[str, Any]] = []
    pending = iter(pictures)
    for turn in turns:
        role = {"human": "user", "gpt": "assistant"}.get(turn["from"], turn["from"])
        text = turn["value"]
        if role != "user" or not pictures:
            found.append({"role": role, "content": text})
            continue
        parts: list[dict[str, Any]] = []
        for number, piece in enumerate(text.split(IMAGE)):
            if number:
                parts.append(next(pending))
            if piece.strip():
                parts.append({"type": "text", "text": piece.strip("\n") if parts else piece})
        found.append({"role": role, "content": parts if any(part["type"] != "text" for part in parts) else text})
    return found
