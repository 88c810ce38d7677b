"""One server that speaks OpenAI's chat completions: sends a request once, and knows when to be left alone."""

import asyncio
import json
import os
from time import monotonic, perf_counter
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from shards.factory.generators.faults import RefusedError, TransientError, meaning_of
from shards.factory.generators.messages import messages
from shards.factory.requests import Request, Response

LONGEST_REST = 30.0  # seconds of a server that cannot be reached
PATIENT = 3  # failures one after the other, without any answer between them, before a server rests


class Address:
    """A server.

    Args:
        url: Base address, such as http://node1:8000/v1.
        model: Name of the model there.
        timeout: Seconds of a request, from its first byte to the last of the answer.

    Attributes:
        asked_until: Until when it asked to be left alone, by the monotonic clock.
    """

    def __init__(self, url: str, model: str, timeout: float) -> None:
        self.url, self.model, self.timeout = url, model, timeout
        self.asked_until = self._rests_until = 0.0
        self._failures, self._failed_at = 0, 0.0
        self._key = os.environ.get("OPENAI_API_KEY") or "none"
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=self._key,
            max_retries=0,
            timeout=openai.Timeout(timeout, connect=min(10.0, timeout)),
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            # what a proxy sends after an answer would be taken for that to the next request of a connection
            default_headers={"Connection": "close"},
        )

    @property
    def rests_until(self) -> float:
        """When it may be asked again, by the monotonic clock."""
        return max(self.asked_until, self._rests_until)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def ask(self, request: Request) -> Response:
        """Send a request once.

        Raises:
            TransientError: If another try may be answered.
            RefusedError: If this request will never be answered.
            UserError: If no request will.
        """
        start, begun = perf_counter(), monotonic()
        try:
            found = await asyncio.wait_for(self._send(request), self.timeout)
            response = self._response(request, found, perf_counter() - start)
        except TimeoutError as error:
            self._failed(begun, None)
            raise TransientError("timeout") from error
        except TransientError as error:
            self._failed(begun, error)
            raise
        except RefusedError:
            self._failures = 0
            raise
        self._failures = 0
        return response

    def _failed(self, begun: float, error: TransientError | None) -> None:
        """Count a failure, and rest where the server asks for it or does not answer any more.

        Requests that were under way together fail together; that is one failure.
        """
        now = monotonic()
        if begun >= self._failed_at:
            self._failures, self._failed_at = self._failures + 1, now
        if error is not None and error.rest is not None:
            self.asked_until = max(self.asked_until, now + error.rest)
        elif self._failures >= PATIENT or (error is not None and error.kind == "connection"):
            rest = min(LONGEST_REST, 0.5 * 2 ** min(self._failures - 1, 8))
            self._rests_until = max(self._rests_until, self._failed_at + rest)

    async def _send(self, request: Request) -> ChatCompletion:
        sampling = request.sampling
        try:
            found: Any = await self._client.chat.completions.create(
                model=self.model,
                messages=messages(request),  # type: ignore[arg-type]
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                seed=request.seed,
            )
        except openai.APITimeoutError as error:
            raise TransientError("timeout") from error
        except openai.APIStatusError as error:
            error.message = self._without_key(error.message)
            raise meaning_of(error, self.url, self.model) from error
        except openai.APIConnectionError as error:
            raise TransientError("connection") from error
        except (json.JSONDecodeError, UnicodeDecodeError, openai.APIError) as error:  # cut, with a length that is right
            raise TransientError("no JSON") from error
        if not isinstance(found, ChatCompletion):
            raise TransientError("no JSON")  # openai returns the text of a page that is no JSON
        return found

    def _response(self, request: Request, found: ChatCompletion, seconds: float) -> Response:
        """Return what an answer says; openai does not check its form.

        Raises:
            TransientError: If it has another form, as an error object with status 200 has.
        """
        try:
            choice = found.choices[0]
            text, finish = choice.message.content or "", choice.finish_reason or "unknown"
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise TransientError("no choices") from error
        if not isinstance(text, str) or not isinstance(finish, str):
            raise TransientError("no choices")
        return Response(
            request.id,
            self._without_key(text.encode("utf-8", "replace").decode()),  # half a surrogate pair cannot be written
            finish,
            count(found.usage, "prompt_tokens"),
            count(found.usage, "completion_tokens"),
            found.model if isinstance(found.model, str) and found.model else self.model,
            round(seconds, 4),
        )

    def _without_key(self, text: str) -> str:
        return text if self._key == "none" else text.replace(self._key, "OPENAI_API_KEY")


def count(usage: object, name: str) -> int:
    """Return a count of tokens, 0 where the server gives none."""
    value = getattr(usage, name, 0)
    return max(0, value) if isinstance(value, int) else 0
