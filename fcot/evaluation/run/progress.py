"""How far a run is, and how long it takes yet: a bar on a terminal, a line now and then elsewhere."""

import sys
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS = 30.0  # between lines


class Progress:
    """The progress of a number of rows.

    Args:
        title: What is done.
        cost: Of all of it, in any unit: time left is taken to be in proportion.
        rows: Their number.
    """

    def __init__(self, title: str, cost: float, rows: int) -> None:
        self.title, self.cost, self.rows = title, max(cost, 1.0), rows
        self.done, self.spent = 0, 0.0
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rows]}"),
            TimeRemainingColumn(),
        )
        self.bar = Bar(*columns, console=console, transient=True) if console.is_terminal and rows else None
        self.start = self.said = monotonic()

    def __enter__(self) -> "Progress":
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.cost, rows=f"0/{self.rows}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        if kind is None and self.done:
            seconds = monotonic() - self.start
            print(f"{self.title}: {self.rows} in {clock(seconds)}", file=sys.stderr, flush=True)

    def advance(self, cost: float, rows: int) -> None:
        """Count rows that are done."""
        self.done, self.spent = self.done + rows, self.spent + cost
        if self.bar is not None:
            self.bar.update(self.task, completed=self.spent, rows=f"{self.done}/{self.rows}")
            return
        now = monotonic()
        if now - self.said >= SECONDS:
            self.said = now
            left = (now - self.start) * (self.cost - self.spent) / self.spent
            line = f"{self.title}: {self.done} of {self.rows}, about {clock(left)} left"
            print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Return "1:02:03", or "2:03" under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
