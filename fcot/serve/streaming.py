"""Answers piece by piece, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from fcot.serve.engine import Piece
from fcot.serve.refusal import left


class Streamed(StreamingResponse):
    """A reply of events that says when it is over, also if the client left before the first.

    Args:
        replies: Events, and the status that each would end the request with.
        over: Is called once, with the status.
    """

    def __init__(self, replies: AsyncIterator[tuple[str, int]], over: Callable[[int], None]) -> None:
        self.over, self.status = over, left().status
        super().__init__(self._noting(replies), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _noting(self, replies: AsyncIterator[tuple[str, int]]) -> AsyncIterator[str]:
        async for text, status in replies:
            yield text
            self.status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.over(self.status)


async def events(
    head: dict[str, Any], pieces: "asyncio.Queue[Piece]", *, usage: bool
) -> AsyncIterator[tuple[str, int]]:
    """Yield an answer as server-sent events, each with the status of a request that has come so far.

    Args:
        head: What all events have.
        pieces: Of the answer.
        usage: Whether to say at the end what it took.
    """
    head, unfinished = {**head, "object": "chat.completion.chunk"}, left().status
    delta: dict[str, Any] = {"role": "assistant", "content": ""}
    while True:
        yield event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}), unfinished
        piece = await pieces.get()
        if piece.refusal is not None:
            yield event(piece.refusal.body()), piece.refusal.status
            return
        if piece.reason:
            break
        delta = {"content": piece.text}
    yield event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": piece.reason}]}), unfinished
    if usage:
        yield event({**head, "choices": [], "usage": usage_of(piece)}), unfinished
    yield "data: [DONE]\n\n", 200


def event(content: dict[str, Any]) -> str:
    """Return one server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def usage_of(piece: Piece) -> dict[str, Any]:
    """Return what an answer took, in tokens, given its last piece."""
    return {
        "prompt_tokens": piece.prompt_tokens,
        "completion_tokens": piece.answer_tokens,
        "total_tokens": piece.prompt_tokens + piece.answer_tokens,
        "prompt_tokens_details": {"visual_tokens": round(piece.visual_tokens, 2)},
    }
