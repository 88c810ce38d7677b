"""The thread that answers: requests join the running rows between any two tokens, and leave when they are done."""

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor

from fcot.models.generation import stop_tokens
from fcot.models.running_rows import RunningRows
from fcot.serve.preparing import Ready
from fcot.serve.refusal import RefusalError, closed
from fcot.serve.tallies import Tallies

TOKENS_AT_ONCE = 16_384  # of prompts that are read together; a longer one is read alone
log = logging.getLogger("fcot.serve")


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: What comes next; in the end, all of it.
        reason: "stop" or "length" in the end, "" before.
        visual_tokens: In the end, how many the language model read, a mean over its layers.
        answer_tokens: In the end, how many were generated.
        refusal: Why there is no answer.
    """

    text: str = ""
    reason: str = ""
    visual_tokens: float = 0.0
    answer_tokens: int = 0
    refusal: RefusalError | None = None


@dataclass(eq=False)
class Ticket:
    """A request that waits or is answered.

    Attributes:
        ready: Its prompt.
        deadline: When it is given up, on the monotonic clock.
        say: Is given the pieces, in the engine's thread.
        stream: Whether pieces are wanted before the end.
        left: Set when the client has left.
    """

    ready: Ready
    deadline: float
    say: Callable[[Piece], None]
    stream: bool = False
    left: bool = False
    ids: list[int] = field(default_factory=list)
    visual_tokens: float = 0.0
    noise: Any = None
    decoder: Any = None
    said: str = ""


class Engine:
    """Answers tickets on a thread of its own.

    Args:
        rows: The rows that run.
        tokenizer: The model's tokenizer.
        tallies: Are kept.
        max_rows: Most rows at a time.
    """

    def __init__(self, rows: RunningRows, tokenizer: Any, tallies: Tallies, max_rows: int) -> None:
        self.rows, self.tokenizer, self.tallies, self.max_rows = rows, tokenizer, tallies, max_rows
        self.stops = stop_tokens(rows.pair)
        self.waiting: deque[Ticket] = deque()
        self.running: list[Ticket] = []
        self.changed, self.closing = threading.Condition(), False
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Let a ticket wait for its turn.

        Raises:
            RefusalError: If the engine is closing.
        """
        with self.changed:
            if self.closing:
                raise closed()
            self.waiting.append(ticket)
            self.changed.notify()

    def close(self) -> None:
        """Answer what waits and runs, then end."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join()

    def _run(self) -> None:
        while True:
            with self.changed:
                while not (self.waiting or self.running or self.closing):
                    self.changed.wait()
                if not (self.waiting or self.running):
                    return
                new = self._next()
            if new:
                self._join(new)
            if self.running:
                self._step()

    def _next(self) -> list[Ticket]:
        """Take the tickets that join now, in the order in which they came."""
        new: list[Ticket] = []
        tokens = 0
        while self.waiting and len(self.running) + len(new) < self.max_rows:
            length = len(self.waiting[0].ready.prompt.ids)
            if new and tokens + length > TOKENS_AT_ONCE:
                break
            ticket = self.waiting.popleft()
            if not self._given_up(ticket):
                new.append(ticket)
                tokens += length
        return new

    def _given_up(self, ticket: Ticket) -> bool:
        """Whether nobody waits for a ticket any more; one whose time is over is told so."""
        if not ticket.left and monotonic() > ticket.deadline:
            refusal = RefusalError(504, "The answer took too long.", "Ask for fewer tokens, or when less is asked.")
            ticket.say(Piece(refusal=refusal))
            ticket.left = True
        return ticket.left

    def _join(self, new: Sequence[Ticket]) -> None:
        """Read the prompts of tickets; if that fails for several, each is tried alone."""
        before = len(self.rows)
        try:
            visual = self.rows.join([ticket.ready.prompt for ticket in new])
        except Exception as error:
            if len(self.rows) != before:
                self._fail_all(error)
            if len(new) > 1:
                for ticket in new:
                    self._join([ticket])
            else:
                self._fail(new[0], error)
            return
        for ticket, tokens in zip(new, visual, strict=True):
            ticket.visual_tokens = tokens
            drawing = ticket.ready.sampling.options([[]], [])
            ticket.noise = drawing.get("logits_processor")
            ticket.decoder = DecodeStream(skip_special_tokens=True) if ticket.stream else None
        self.running += new
        self.tallies.add("prompt_tokens", sum(len(ticket.ready.prompt.ids) for ticket in new))
        self.tallies.add("visual_tokens", sum(visual))

    def _step(self) -> None:
        """Make a token of each row."""
        try:
            tokens = self._draw(self.rows.step())
        except Exception as error:
            self._fail_all(error)
            return
        self.tallies.add("steps", 1)
        self.tallies.add("answer_tokens", len(tokens))
        going_on = [row for row, token in enumerate(tokens) if self._goes_on(self.running[row], token)]
        self.rows.keep(going_on, [tokens[row] for row in going_on])
        self.running = [self.running[row] for row in going_on]

    def _draw(self, scores: Tensor) -> list[int]:
        """Return the next token of each row, given its scores `[rows, vocabulary]`."""
        tokens: list[int] = scores.argmax(-1).tolist()
        for row, ticket in enumerate(self.running):
            if ticket.noise is not None:
                ids = torch.tensor([ticket.ids], dtype=torch.int64, device=scores.device)
                tokens[row] = int(ticket.noise(ids, scores[row : row + 1]).argmax())
        return tokens

    def _goes_on(self, ticket: Ticket, token: int) -> bool:
        """Give a ticket its token, and return whether more are to come."""
        if self._given_up(ticket):
            return False
        if token in self.stops:
            self._end(ticket, "stop")
            return False
        ticket.ids.append(token)
        if ticket.decoder is not None:
            piece = ticket.decoder.step(self.tokenizer.backend_tokenizer, token)
            if piece:
                ticket.said += piece
                ticket.say(Piece(piece))
        if len(ticket.ids) >= ticket.ready.max_new_tokens:
            self._end(ticket, "length")
            return False
        return True

    def _end(self, ticket: Ticket, reason: str) -> None:
        text = str(self.tokenizer.decode(ticket.ids, skip_special_tokens=True))
        if ticket.stream and text.startswith(ticket.said):
            ticket.say(Piece(text[len(ticket.said) :]))
        ticket.say(Piece(text, reason, ticket.visual_tokens, len(ticket.ids)))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        """Tell a client that its request has failed; the log says where, and nothing of what was asked."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s at %s:%s", type(error).__name__, Path(where.filename).name, where.lineno)
        if isinstance(error, torch.OutOfMemoryError):
            refusal = RefusalError(503, "The device has not enough memory now.", "Ask again later.", retry_after=5)
        else:
            refusal = RefusalError(500, "The request failed in the server.", "See the server's log.")
        ticket.say(Piece(refusal=refusal))

    def _fail_all(self, error: Exception) -> None:
        for ticket in self.running:
            self._fail(ticket, error)
        self.running = []
        self.rows.clear()
