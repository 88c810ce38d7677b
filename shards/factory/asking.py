"""Ask a generator what is not in the journals yet, shard by shard, beside any number of other processes."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from fcot.errors import UserError
from fcot.files.lock import claim
from shards.factory.job import Job
from shards.factory.journal import Journal
from shards.factory.question import Question
from shards.factory.questions import questions
from shards.factory.requests import Generator, Request, Response

EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h, as in training
SECONDS = 30.0  # between lines of progress
POLL_SECONDS = 2.0  # between looks at shards that other processes hold
SAME_PROMPTS, SAME_SEEDS = 3, 4  # asked to see whether a generator samples at all


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Attributes:
        budget: Most tokens of the set, prompts and answers together, those in the journals included; None for any.
        part: Which share of the source's shards, (number from 0, of how many).
        prompt_price: Of a million prompt tokens, in any currency.
        answer_price: Of a million answer tokens.
    """

    budget: int | None = None
    part: tuple[int, int] = (0, 1)
    prompt_price: float = 0.0
    answer_price: float = 0.0


@dataclass
class Meter:
    """Counts what was asked and spent, and says so now and then."""

    limits: Limits
    total: int = 0
    there: int = 0
    new: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    start: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def add(self, response: Response, *, new: bool) -> None:
        """Count a response."""
        self.there += 1
        self.new += new
        self.prompt_tokens += response.prompt_tokens
        self.answer_tokens += response.answer_tokens
        if new and time.monotonic() - self.said >= SECONDS:
            self.say()

    def say(self) -> None:
        """Print a line."""
        self.said = time.monotonic()
        spent = self.said - self.start
        rate = self.new / spent if spent else 0.0
        left = f", about {(self.total - self.there) / rate / 60:.0f} min left" if rate and self.total else ""
        print(f"{self.there} of {self.total} responses, {self.cost()}{left}", file=sys.stderr, flush=True)

    def cost(self) -> str:
        """Return tokens so far, and their price if one is known."""
        tokens = f"{self.prompt_tokens} prompt and {self.answer_tokens} answer tokens"
        price = (
            self.prompt_tokens * self.limits.prompt_price + self.answer_tokens * self.limits.answer_price
        ) / 1_000_000
        return f"{tokens}, {price:.2f} spent" if price else tokens

    def check(self) -> None:
        """Stop where the budget is spent.

        Raises:
            SystemExit: With code 75.
        """
        spent = self.prompt_tokens + self.answer_tokens
        if self.limits.budget is not None and spent >= self.limits.budget:
            print(
                f"The budget of {self.limits.budget} tokens is spent ({self.cost()}); "
                f"{self.total - self.there} responses are not there yet.\nRaise --budget to go on.",
                file=sys.stderr,
            )
            raise SystemExit(EXIT_TRY_AGAIN)


def ask_all(job: Job, generator: Generator, limits: Limits) -> Meter:
    """Ask until every shard's responses are there, those of other processes included.

    Args:
        job: What is made.
        generator: Who is asked.
        limits: When to stop.

    Raises:
        UserError: If a journal cannot be written, or the generator cannot be asked.
        SystemExit: With code 75 at SIGTERM, or when the budget is spent; what was answered is kept.
    """
    number, of = limits.part
    pending = [shard for shard in range(job.shards) if shard % of == number]
    meter = Meter(limits, total=_expected(job, pending))
    with leaving_on_sigterm():
        while pending:
            held = []
            for shard in pending:
                with claim(job.lock(shard)) as mine:
                    if mine:
                        ask_shard(job, shard, generator, meter)
                    else:
                        held.append(shard)
            if held and held == pending:
                time.sleep(POLL_SECONDS)
            pending = held
    return meter


def _expected(job: Job, shards: list[int]) -> int:
    """Return how many responses there will be at most."""
    tasks, of = job.source.names("task")
    asked, wanted = [job.kind.asks(task) for task in tasks], set(shards)
    numbers = [each for each in job.source.usable().tolist() if job.limit is None or each < job.limit]
    return job.kind.samples * len([each for each in numbers if asked[of[each]] and job.source.place(each)[0] in wanted])


def ask_shard(job: Job, shard: int, generator: Generator, meter: Meter) -> None:
    """Ask what a shard's journal does not hold yet."""
    journal = job.journal(shard)
    there = {name: response for name, (response, _) in journal.read().items()}
    if journal.damaged:
        print(f"{journal.path}: {journal.damaged} damaged lines are asked again", file=sys.stderr, flush=True)

    def missing() -> Iterator[Request]:
        for question in questions(job.source, shard, job.limit):
            if isinstance(question, Question):
                for name in job.ids(question):
                    if name in there:
                        meter.add(there[name], new=False)
                if any(name not in there for name in job.ids(question)):
                    yield from (request for request in job.requests(question) if request.id not in there)

    try:
        record(generator.answers(missing()), journal, there, meter)
    finally:
        journal.close()


def record(
    answers: Iterator[tuple[Request, Response]], journal: Journal, there: dict[str, Response], meter: Meter
) -> None:
    """Append responses as they come; one that comes twice is written once."""
    for request, response in answers:
        if request.id not in there:
            there[request.id] = response
            journal.append(response)
            meter.add(response, new=True)
        meter.check()


def check_sampling(job: Job, generator: Generator) -> None:
    """See that other seeds give other texts, before money is spent: three prompts, four seeds each.

    The texts are requests of the run, so they are kept.

    Raises:
        UserError: If all texts of each prompt are the same.
    """
    if job.kind.samples < SAME_SEEDS or job.sampling.temperature == 0 or not job.shards:
        return
    with claim(job.lock(0)) as mine:
        if not mine:
            return  # another process has seen to it
        journal = job.journal(0)
        there = {name: response for name, (response, _) in journal.read().items()}
        asked: dict[str, list[Request]] = {}
        for question in questions(job.source, 0, job.limit):
            if isinstance(question, Question) and question.known.task not in asked:
                asked[question.known.task] = list(job.requests(question))[:SAME_SEEDS]
            if len(asked) == SAME_PROMPTS:
                break
        missing = [each for requests in asked.values() for each in requests if each.id not in there]
        try:
            record(generator.answers(iter(missing)), journal, there, Meter(Limits()))
        finally:
            journal.close()
    texts = [{there[each.id].text for each in requests if each.id in there} for requests in asked.values() if requests]
    answered = any(there[each.id].text for requests in asked.values() for each in requests if each.id in there)
    if texts and answered and all(len(each) == 1 for each in texts):
        raise UserError(
            f"The generator gives the same text for {SAME_SEEDS} seeds at temperature {job.sampling.temperature}, on "
            f"each of {len(texts)} prompts: {next(iter(texts[0]))[:60]!r}.\n"
            "Make it sample (some servers ignore temperature and seed), or ask for one sample: --samples 1."
        )


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Leave with code 75 at SIGTERM, between two lines of Python."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TRY_AGAIN)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread, whose business signals are
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
