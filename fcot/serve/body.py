"""Read the body of a request within bounds of kind, size, time and memory."""

import asyncio
from collections.abc import Collection

from fastapi import Request
from starlette.requests import ClientDisconnect

from fcot.serve.held_bytes import Share
from fcot.serve.refusal import RefusalError, left

BODY_SECONDS = 60.0  # within which a body has come; one that drips would hold a place for as long as an answer


async def read_body(request: Request, kinds: Collection[str], most: int, seconds: float, share: Share) -> bytearray:
    """Read a body.

    Args:
        request: The request.
        kinds: Content types that are taken.
        most: Most bytes.
        seconds: Within which it has come.
        share: Of the bytes that all requests hold; has the body's size after.

    Raises:
        RefusalError: If it is of another kind, too large, too slow, or the client leaves.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in kinds:
        wanted = "JSON" if set(kinds) == {"application/json"} else "one of these"
        raise RefusalError(415, f"The body is not said to be {wanted}.", f"Set Content-Type: {', '.join(kinds)}.")
    too_large = RefusalError(413, f"The body has more than {most} bytes.", "Send smaller pictures, or fewer.")
    if int(request.headers.get("content-length", "0")) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_large
                share.set(len(body))
    except TimeoutError:
        raise RefusalError(408, "The body came too slowly.", "Send it again.") from None
    except ClientDisconnect:
        raise left() from None
    return body
