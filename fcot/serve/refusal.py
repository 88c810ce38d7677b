"""Why a request is not answered, in the form of OpenAI's errors."""

from typing import Any


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
