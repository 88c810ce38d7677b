"""An open loop of clients: each asks when its time has come, however many others still wait for an answer.

A closed loop, in which a client waits for its answer before it asks again, asks less of a slower server, and so hides
how long others would have waited.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SECONDS = 600.0  # after which a client no longer waits


@dataclass(frozen=True)
class Reply:
    """What a client got.

    Attributes:
        status: Of HTTP; 0 if the connection broke.
        due: Seconds from the start of the load at which it was to ask.
        first: Seconds from then to the first text.
        seconds: Seconds from then to the end.
        tokens: Of the answer.
        visual_tokens: Of its pages.
    """

    status: int
    due: float
    first: float
    seconds: float
    tokens: int
    visual_tokens: float


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Return when requests come, in seconds, as if from many independent users: a Poisson process."""
    draw, found, at = random.Random(seed), list[float](), 0.0
    while (at := at + draw.expovariate(rate)) < seconds:
        found.append(at)
    return found or [0.0]


def load(port: int, bodies: Sequence[bytes], due: Sequence[float]) -> list[Reply]:
    """Ask at given times and return the replies in that order.

    Args:
        port: Of the server on this machine.
        bodies: Requests that stream with usage, taken in turn.
        due: When to ask, in seconds from now, in order.
    """
    replies: list[Reply | None] = [None] * len(due)
    start = time.monotonic()

    def client(number: int) -> None:
        replies[number] = ask(port, bodies[number % len(bodies)], start, due[number])

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(len(due))]
    for at, thread in zip(due, threads, strict=True):
        time.sleep(max(0.0, start + at - time.monotonic()))
        thread.start()
    for thread in threads:
        thread.join()
    return [reply for reply in replies if reply is not None]


def ask(port: int, body: bytes, start: float, due: float) -> Reply:
    """Ask once and read the stream.

    Args:
        port: Of the server on this machine.
        body: The request.
        start: When the load began, on the monotonic clock.
        due: When this request was due, in seconds after that: time it has already lost counts.
    """
    first, usage, status = 0.0, dict[str, Any](), 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        for line in answer:
            if answer.status != 200 or not line.startswith(b"data: {"):
                continue
            event = json.loads(line[len("data: ") :])
            if "error" in event:
                status = int(event["error"]["code"])
                break
            if not first and any(choice["delta"].get("content") for choice in event["choices"]):
                first = time.monotonic() - start - due
            usage = event.get("usage") or usage
        status = status or answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    seconds, tokens = time.monotonic() - start - due, usage.get("completion_tokens", 0)
    return Reply(status, due, first, seconds, tokens, usage.get("prompt_tokens_details", {}).get("visual_tokens", 0.0))
