"""The thread that answers: requests join the running rows between any two tokens, and leave when they are done."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor

from fcot.models.generation import stop_tokens
from fcot.models.running_rows import Prompt, RunningRows
from fcot.serve.preparing import Ready
from fcot.serve.refusal import RefusalError, closed, failed
from fcot.serve.tallies import Tallies

TOKENS_AT_ONCE = 16_384  # of prompts that are read together; a longer one is read alone


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: What comes next; in the end, all of it.
        reason: "stop" or "length" in the end, "" before.
        prompt_tokens: In the end, how many there were.
        visual_tokens: In the end, how many of them the language model read, a mean over its layers.
        answer_tokens: In the end, how many were generated.
        refusal: Why there is no answer.
    """

    text: str = ""
    reason: str = ""
    prompt_tokens: int = 0
    visual_tokens: float = 0.0
    answer_tokens: int = 0
    refusal: RefusalError | None = None


class Ticket:
    """A request that waits or is answered.

    Args:
        ready: Its prompt.
        say: Is given the pieces, in the engine's thread.
        was_read: Is called when its pages are no longer held.
        stream: Whether pieces are wanted before the end.

    Attributes:
        prompt: What is to be read; None when it has been, so that its pages are freed.
        left: Whether nobody waits for it any more.
    """

    def __init__(
        self, ready: Ready, say: Callable[[Piece], None], was_read: Callable[[], None], *, stream: bool = False
    ) -> None:
        self.prompt: Prompt | None = ready.prompt
        self.prompt_tokens, self.max_new_tokens = len(ready.prompt.ids), ready.max_new_tokens
        self.say, self.was_read, self.left = say, was_read, False
        self.noise: Any = ready.sampling.options([[]], []).get("logits_processor")
        self.decoder: Any = DecodeStream(skip_special_tokens=True) if stream else None
        self.ids: list[int] = []
        self.said: str | None = "" if stream else None
        self.visual_tokens = 0.0


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

    def withdraw(self, ticket: Ticket) -> None:
        """Give a ticket up; a row that it has is freed before the next token."""
        with self.changed:
            ticket.left = True
            with suppress(ValueError):
                self.waiting.remove(ticket)

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
            tokens += self.waiting[0].prompt_tokens
            if new and tokens > TOKENS_AT_ONCE:
                break
            new.append(self.waiting.popleft())
        return new

    def _join(self, new: Sequence[Ticket]) -> None:
        """Read the prompts of tickets; if that fails for several, each is tried alone."""
        before = len(self.rows)
        try:
            visual = self.rows.join([ticket.prompt for ticket in new if ticket.prompt is not None])
        except Exception as error:
            if len(self.rows) != before:
                self._fail_all(error)
            if len(new) > 1:
                for ticket in new:
                    self._join([ticket])
            else:
                new[0].say(Piece(refusal=failed(error)))
            return
        for ticket, tokens in zip(new, visual, strict=True):
            ticket.visual_tokens, ticket.prompt = tokens, None
            ticket.was_read()
        self.running += new
        self.tallies.add("prompt_tokens", sum(ticket.prompt_tokens for ticket in new))
        self.tallies.add("visual_tokens", sum(visual))

    def _step(self) -> None:
        """Make a token of each row."""
        try:
            tokens = self._draw(self.rows.step())
            self.tallies.add("steps", 1)
            self.tallies.add("answer_tokens", len(tokens))
            going_on = [row for row, token in enumerate(tokens) if self._goes_on(self.running[row], token)]
            self.rows.keep(going_on, [tokens[row] for row in going_on])
            self.running = [self.running[row] for row in going_on]
        except Exception as error:
            self._fail_all(error)

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
        if ticket.left:
            return False
        if token in self.stops:
            self._end(ticket, "stop")
            return False
        ticket.ids.append(token)
        if ticket.decoder is not None:
            self._say_next(ticket, token)
        if len(ticket.ids) >= ticket.max_new_tokens:
            self._end(ticket, "length")
            return False
        return True

    def _say_next(self, ticket: Ticket, token: int) -> None:
        """Say what a token adds to an answer, if its text is whole."""
        try:
            piece = ticket.decoder.step(self.tokenizer.backend_tokenizer, token)
        except Exception:  # of bytes that are no text: the rest comes at the end
            ticket.decoder = None
            return
        if piece:
            ticket.said += piece
            ticket.say(Piece(piece))

    def _end(self, ticket: Ticket, reason: str) -> None:
        text = str(self.tokenizer.decode(ticket.ids, skip_special_tokens=True))
        if ticket.said is not None and text.startswith(ticket.said) and len(text) > len(ticket.said):
            ticket.say(Piece(text[len(ticket.said) :]))
        ticket.say(Piece(text, reason, ticket.prompt_tokens, ticket.visual_tokens, len(ticket.ids)))

    def _fail_all(self, error: Exception) -> None:
        refusal = failed(error)
        for ticket in self.running:
            ticket.say(Piece(refusal=refusal))
        self.running = []
        self.rows.clear()
