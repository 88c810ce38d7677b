"""What happens to one request: it is let in, read, prepared, given to the engine, and replied to."""

import asyncio
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from fcot.serve.body import BODY_SECONDS, read_body
from fcot.serve.chat_request import ChatRequest, parse
from fcot.serve.engine import Engine, Piece, Ticket
from fcot.serve.held_bytes import HeldBytes, Share
from fcot.serve.preparing import Preparer, Ready
from fcot.serve.refusal import RefusalError, failed, left, too_slow
from fcot.serve.streaming import Streamed, events, usage_of
from fcot.serve.tallies import Tallies

PREPARERS = 2  # threads that decode pictures, each one whole picture at a time


@dataclass(frozen=True)
class Door:
    """Who comes in, and with how much.

    Attributes:
        name: The model's name.
        key: What clients must show; "" for nothing.
        max_bytes: Most bytes of a body.
        max_held: Most bytes of bodies and cut pages that are read or wait, of all requests.
        max_requests: Most requests under way.
        seconds: Longest time of a request, its body included.
    """

    name: str
    key: str
    max_bytes: int
    max_held: int
    max_requests: int
    seconds: float


class Visit:
    """One request, from its first byte to the last of its reply.

    Args:
        server: Where it is.
    """

    def __init__(self, server: "Server") -> None:
        self.server, self.begun, self.over = server, time.monotonic(), False
        self.share = Share(server.held)
        server.under_way += 1

    @property
    def seconds_left(self) -> float:
        """How long it may still take."""
        return self.begun + self.server.door.seconds - time.monotonic()

    def end(self, status: int) -> None:
        """Give its place to others and count it; only the first call does."""
        if not self.over:
            self.over = True
            self.share.release()
            self.server.under_way -= 1
            self.server.tallies.reply(status, time.monotonic() - self.begun)


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
        self.held, self.under_way, self.created = HeldBytes(door.max_held), 0, int(time.time())
        self.pool = ThreadPoolExecutor(PREPARERS, thread_name_prefix="preparer")

    async def chat(self, request: Request) -> Response:
        """Answer `POST /v1/chat/completions`."""
        if self.under_way >= self.door.max_requests:
            self.tallies.reply(429, 0)
            raise RefusalError(429, "Too many requests wait.", "Ask again in a second.", retry_after=1)
        visit = Visit(self)
        try:
            reply = await self._reply(request, visit)
        except RefusalError as refusal:
            visit.end(refusal.status)
            raise
        except Exception as error:
            visit.end(500)
            raise failed(error) from None  # or the log would have what was asked
        except BaseException:
            visit.end(500)
            raise
        if not isinstance(reply, Streamed):
            visit.end(reply.status_code)
        return reply

    async def _reply(self, request: Request, visit: Visit) -> Response:
        """Let the engine answer, and reply at once or piece by piece."""
        seconds = min(BODY_SECONDS, visit.seconds_left)
        body = await read_body(request, ("application/json",), self.door.max_bytes, seconds, visit.share)
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece]()

        def prepare() -> tuple[Ready, bool, bool]:
            asked = parse(body, ChatRequest)
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            ready = self.preparer.ready(asked)
            body.clear()
            return ready, bool(asked.stream), usage

        ready, stream, usage = await loop.run_in_executor(self.pool, prepare)
        visit.share.set(sum(page.tiles.nbytes for page in ready.prompt.pages))

        def say(piece: Piece) -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        ticket = Ticket(ready, say, visit.share.release, stream=stream)
        self.engine.submit(ticket)
        timer = loop.call_later(visit.seconds_left, self.give_up, ticket, too_slow())
        watching = asyncio.create_task(self._watch(request, ticket))

        def over(status: int) -> None:
            self.engine.withdraw(ticket)
            timer.cancel()
            watching.cancel()
            visit.end(status)

        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.door.name}
        if stream:
            return Streamed(events(head, pieces, usage=usage), over)
        return await self._whole(head, pieces, over)

    async def _whole(
        self, head: dict[str, Any], pieces: "asyncio.Queue[Piece]", over: Callable[[int], None]
    ) -> Response:
        """Wait for a whole answer."""
        status = 500
        try:
            piece = await pieces.get()
            status = 200 if piece.refusal is None else piece.refusal.status
        finally:
            over(status)
        if piece.refusal is not None:
            raise piece.refusal
        message = {"role": "assistant", "content": piece.text}
        choice = {"index": 0, "message": message, "finish_reason": piece.reason, "logprobs": None}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage_of(piece)})

    def give_up(self, ticket: Ticket, refusal: RefusalError) -> None:
        """Answer a ticket with a refusal, and free its row."""
        self.engine.withdraw(ticket)
        ticket.say(Piece(refusal=refusal))

    async def _watch(self, request: Request, ticket: Ticket) -> None:
        """Free the row of a client that leaves."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.give_up(ticket, left())
