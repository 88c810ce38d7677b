"""The server's addresses: OpenAI's chat completions, the model's name, health and numbers."""

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fcot.serve.chat_request import ChatRequest, parse
from fcot.serve.engine import Engine, Piece, Ticket
from fcot.serve.preparing import Preparer, Ready
from fcot.serve.refusal import RefusalError
from fcot.serve.tallies import Tallies

CLIENT_LEFT = 499
BODY_SECONDS = 60.0  # within which a body has come; one that drips would hold a place for as long as an answer
PREPARERS = 2  # threads that decode pictures, each one whole picture at a time


@dataclass(frozen=True)
class Door:
    """Who comes in, and with how much.

    Attributes:
        name: The model's name.
        key: What clients must show; "" for nothing.
        max_bytes: Most bytes of a body.
        max_requests: Most requests under way.
        seconds: Longest time of a request, its body included.
    """

    name: str
    key: str
    max_bytes: int
    max_requests: int
    seconds: float


class Server:
    """Answers requests.

    Args:
        door: Who comes in.
        preparer: Makes prompts.
        engine: Answers them.
        tallies: Are kept.
    """

    def __init__(self, door: Door, preparer: Preparer, engine: Engine, tallies: Tallies) -> None:
        self.door, self.preparer, self.engine, self.tallies = door, preparer, engine, tallies
        self.pool, self.under_way, self.created = ThreadPoolExecutor(PREPARERS), 0, int(time.time())

    async def chat(self, request: Request) -> Response:
        """Answer `POST /v1/chat/completions`."""
        begun = time.monotonic()
        if self.under_way >= self.door.max_requests:
            self.tallies.reply(429, 0)
            raise RefusalError(429, "Too many requests wait.", "Ask again in a second.", retry_after=1)
        self.under_way += 1
        done = False

        def end(status: int) -> None:
            nonlocal done
            if not done:
                done = True
                self.under_way -= 1
                self.tallies.reply(status, time.monotonic() - begun)

        try:
            deadline = begun + self.door.seconds
            asked, ready = await self._read(request, deadline)
            reply = await self._reply(request, asked, ready, deadline, end)
        except RefusalError as refusal:
            end(refusal.status)
            raise
        except BaseException:
            end(500)
            raise
        if not isinstance(reply, StreamingResponse):
            end(reply.status_code)
        return reply

    async def _read(self, request: Request, deadline: float) -> tuple[ChatRequest, Ready]:
        """Read, parse and prepare a body."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusalError(415, "The body is not said to be JSON.", "Set Content-Type: application/json.")
        body, declared = bytearray(), request.headers.get("content-length", "0")
        try:
            async with asyncio.timeout(min(BODY_SECONDS, deadline - time.monotonic())):
                async for part in request.stream():
                    body += part
                    if max(len(body), int(declared)) > self.door.max_bytes:
                        raise RefusalError(
                            413,
                            f"The body has more than {self.door.max_bytes} bytes.",
                            "Send smaller pictures, or fewer.",
                        )
        except TimeoutError:
            raise RefusalError(408, "The body came too slowly.", "Send it again.") from None
        except ClientDisconnect:
            raise RefusalError(CLIENT_LEFT, "The client has left.", "") from None

        def prepare() -> tuple[ChatRequest, Ready]:
            asked = parse(bytes(body))
            return asked, self.preparer.ready(asked)

        return await asyncio.get_running_loop().run_in_executor(self.pool, prepare)

    async def _reply(
        self, request: Request, asked: ChatRequest, ready: Ready, deadline: float, end: Callable[[int], None]
    ) -> Response:
        """Let the engine answer, and reply at once or piece by piece."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece]()

        def say(piece: Piece) -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        ticket = Ticket(ready, deadline, say, stream=bool(asked.stream))
        self.engine.submit(ticket)
        watching = asyncio.create_task(watch(request, ticket, say))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.door.name}
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            body = events(head, pieces, ticket, watching, end, usage=usage)
            return StreamingResponse(body, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        try:
            piece = await pieces.get()
        finally:
            ticket.left = True
            watching.cancel()
        if piece.refusal is not None:
            raise piece.refusal
        message = {"role": "assistant", "content": piece.text}
        choice = {"index": 0, "message": message, "finish_reason": piece.reason, "logprobs": None}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage_of(ready, piece)})


async def watch(request: Request, ticket: Ticket, say: Callable[[Piece], None]) -> None:
    """Free the row of a client that leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ticket.left = True
    say(Piece(refusal=RefusalError(CLIENT_LEFT, "The client has left.", "")))


async def events(
    head: dict[str, Any],
    pieces: "asyncio.Queue[Piece]",
    ticket: Ticket,
    watching: "asyncio.Task[None]",
    end: Callable[[int], None],
    *,
    usage: bool,
) -> AsyncIterator[str]:
    """Yield an answer as server-sent events."""
    head, status = {**head, "object": "chat.completion.chunk"}, CLIENT_LEFT
    try:
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        while True:
            yield event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            piece = await pieces.get()
            if piece.refusal is not None:
                status = piece.refusal.status
                yield event(piece.refusal.body())
                return
            if piece.reason:
                break
            delta = {"content": piece.text}
        yield event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": piece.reason}]})
        if usage:
            yield event({**head, "choices": [], "usage": usage_of(ticket.ready, piece)})
        yield "data: [DONE]\n\n"
        status = 200
    finally:
        ticket.left = True
        watching.cancel()
        end(status)


def event(content: dict[str, Any]) -> str:
    """Return one server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def usage_of(ready: Ready, piece: Piece) -> dict[str, Any]:
    """Return what an answer took, in tokens."""
    prompt, answer = len(ready.prompt.ids), piece.answer_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"visual_tokens": round(piece.visual_tokens, 2)},
    }


def make_app(server: Server) -> FastAPI:
    """Return the application; its end waits for the engine's."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.engine.close)

    def guard(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        expected = f"Bearer {server.door.key}".encode()
        if server.door.key and request.url.path != "/health" and not hmac.compare_digest(given, expected):
            raise RefusalError(401, "The key is missing or wrong.", "Send Authorization: Bearer KEY.")

    # a middleware of Starlette's would stand between a client that leaves and the request that watches for it
    app = FastAPI(lifespan=life, dependencies=[Depends(guard)], docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(RefusalError)
    async def on_refusal(_: Request, refusal: RefusalError) -> Response:
        return refused(refusal)

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> Response:
        return refused(RefusalError(error.status_code, f"{error.detail}.", "See the list of addresses in the README."))

    app.post("/v1/chat/completions", response_model=None)(server.chat)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        """List the model."""
        model = {"id": server.door.name, "object": "model", "created": server.created, "owned_by": "fcot"}
        return {"object": "list", "data": [model]}

    @app.get("/health")
    def health() -> dict[str, str]:
        """Say whether the engine lives."""
        if not server.engine.thread.is_alive():
            raise RefusalError(503, "The engine has ended.", "Start the server again.")
        return {"status": "ok"}

    @app.get("/metrics", response_model=None)
    def metrics() -> PlainTextResponse:
        """Return all numbers."""
        engine, pages = server.engine, server.engine.rows.pages
        now = {
            "requests_under_way": server.under_way,
            "rows_running": len(engine.running),
            "rows_waiting": len(engine.waiting),
            "page_bytes": pages.num_bytes,
        }
        totals: dict[str, float] = {"pages_seen": pages.misses, "pages_remembered": pages.hits}
        return PlainTextResponse(server.tallies.page(totals, now), media_type="text/plain; version=0.0.4")

    return app


def refused(refusal: RefusalError) -> Response:
    """Return a refusal as a reply."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return JSONResponse(refusal.body(), refusal.status, headers)
