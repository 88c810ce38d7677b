"""What an answer that is none means: try again, leave this request, or stop."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

from fcot.errors import UserError

TRY_AGAIN = (408, 409, 425, 429)
REFUSED = (400, 413, 422)


class TransientError(Exception):
    """A try failed in a way that may pass.

    Attributes:
        kind: Class of the fault.
        rest: Seconds that the server asked for, None if it did not.
    """

    def __init__(self, kind: str, rest: float | None = None) -> None:
        super().__init__(kind)
        self.kind, self.rest = kind, rest


class RefusedError(Exception):
    """A server will not answer this request, however often it is asked.

    Attributes:
        kind: Class of the fault.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


def meaning_of(error: openai.APIStatusError, url: str, model: str) -> Exception:
    """Return what an HTTP status means; a UserError where nothing will ever be answered.

    Args:
        error: What the client raised.
        url: Address of the server, for the message.
        model: Name of the model there.
    """
    status, detail = error.status_code, error.message[:200]
    if status in TRY_AGAIN or status >= 500:
        return TransientError(f"status {status}", retry_after(error.response.headers))
    if status in REFUSED:
        return RefusedError(f"status {status}", detail)
    advice = {401: "Set OPENAI_API_KEY to a valid key.", 403: "Set OPENAI_API_KEY to a key that may use the model."}
    there = error.response.headers.get("location", "")
    found = f", to {there}" if there else ""
    return UserError(
        f"{url} answers with status {status}{found}: {detail}\n"
        + advice.get(status, f"Check the address, which as a rule ends in /v1, and the model's name {model!r}.")
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response asks to wait, given as a number or as a date; None if it does not."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        return max(0.0, seconds) if seconds == seconds else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
