"""What a server has done so far, in the form that Prometheus reads."""

import threading
from collections import Counter
from collections.abc import Mapping

TOTALS = {
    "prompt_tokens": "Tokens of prompts, visual ones included.",
    "visual_tokens": "Visual tokens that the language model read.",
    "answer_tokens": "Tokens generated.",
    "steps": "Passes of the language model that generated a token of each running row.",
    "pages_seen": "Pages that passed the vision tower.",
    "pages_remembered": "Pages that did not have to.",
    "request_seconds": "Seconds of all requests together.",
}
NOW = {
    "requests_under_way": "Requests that are read, wait or are answered.",
    "held_bytes": "Bytes of bodies and cut pages of requests that are read or wait.",
    "rows_running": "Requests that are answered.",
    "rows_waiting": "Requests that wait for a row.",
    "page_bytes": "Bytes of what is remembered of pages.",
}


class Tallies:
    """Numbers that several threads add to."""

    def __init__(self) -> None:
        self._lock, self._totals, self._replies = threading.Lock(), Counter[str](), Counter[int]()

    def add(self, name: str, number: float) -> None:
        """Add to one of `TOTALS`."""
        with self._lock:
            self._totals[name] += number  # type: ignore[assignment]  # a Counter takes any number

    def reply(self, status: int, seconds: float) -> None:
        """Count a request that has ended.

        Args:
            status: Of HTTP; 499 if the client left before.
            seconds: From its first byte to its end.
        """
        with self._lock:
            self._replies[status] += 1
        self.add("request_seconds", seconds)

    def page(self, totals: Mapping[str, float], now: Mapping[str, float]) -> str:
        """Return all numbers in Prometheus' text form.

        Args:
            totals: Those of `TOTALS` that are counted elsewhere.
            now: Those of `NOW`.
        """
        with self._lock:
            found, replies = {**self._totals, **totals}, dict(self._replies)
        lines = [
            "# HELP fcot_requests_total Requests that have ended, by status.",
            "# TYPE fcot_requests_total counter",
        ]
        lines += [f'fcot_requests_total{{status="{status}"}} {count}' for status, count in sorted(replies.items())]
        for name, meaning in TOTALS.items():
            full = f"fcot_{name}_total"
            lines += [f"# HELP {full} {meaning}", f"# TYPE {full} counter", f"{full} {found.get(name, 0)}"]
        for name, meaning in NOW.items():
            full = f"fcot_{name}"
            lines += [f"# HELP {full} {meaning}", f"# TYPE {full} gauge", f"{full} {now[name]}"]
        return "\n".join(lines) + "\n"
