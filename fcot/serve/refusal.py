"""Why a request is not answered, in the form of OpenAI's errors."""

import logging
import traceback
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("fcot.serve")


class RefusalError(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        wrong: What is wrong, one sentence that repeats nothing long.
        advice: What to do, one sentence.
        retry_after: Seconds after which it may be asked again.
    """

    def __init__(self, status: int, wrong: str, advice: str, retry_after: int | None = None) -> None:
        super().__init__(f"{wrong} {advice}")
        self.status, self.retry_after = status, retry_after

    def body(self) -> dict[str, Any]:
        """Return the reply's JSON."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.status}}


def closed() -> RefusalError:
    """Return the refusal of a server that is ending."""
    return RefusalError(503, "The server is ending.", "Ask another one.", retry_after=5)


def too_slow() -> RefusalError:
    """Return the refusal of a request whose time is over."""
    return RefusalError(504, "The answer took too long.", "Ask for fewer tokens, or when less is asked.")


def left() -> RefusalError:
    """Return the refusal of a client that has left, which nobody reads."""
    return RefusalError(499, "The client has left.", "")


def failed(error: Exception) -> RefusalError:
    """Return the refusal for a failure; the log says where it was, and nothing of what was asked."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s at %s:%s", type(error).__name__, Path(where.filename).name, where.lineno)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return RefusalError(503, "There is not enough memory now.", "Ask again later.", retry_after=5)
    return RefusalError(500, "The request failed in the server.", "See the server's log.")
