"""Ask a generator what is not in the journals yet, shard by shard, beside any number of other processes."""

import sys
import time
from collections.abc import Iterator

from fcot.files.lock import claim
from shards.factory.job import Job
from shards.factory.journal import Journal
from shards.factory.meter import Meter
from shards.factory.question import Question
from shards.factory.questions import questions
from shards.factory.requests import Generator, Request, Response

POLL_SECONDS = 2.0  # between looks at shards that other processes hold


def ask_all(job: Job, generator: Generator, meter: Meter) -> None:
    """Ask until every shard's responses are there, those of other processes included.

    Args:
        job: What is made.
        generator: Who is asked.
        meter: Counts what is asked, and says when to stop.

    Raises:
        UserError: If a journal cannot be written, or the generator cannot be asked.
        SystemExit: With code 75 when the budget is spent; what was answered is kept.
    """
    number, of = meter.limits.part
    pending = [shard for shard in range(job.shards) if shard % of == number]
    meter.total = _expected(job, pending)
    while pending:
        held = []
        for shard in pending:
            with claim(job.lock(shard)) as mine:
                if mine:
                    ask_shard(job, shard, generator, meter)
                else:
                    held.append(shard)
        if held == pending:
            time.sleep(POLL_SECONDS)
        pending = held


def _expected(job: Job, shards: list[int]) -> int:
    """Return how many responses there will be at most."""
    tasks, of = job.source.names("task")
    asked, wanted = [job.kind.asks(task) for task in tasks], set(shards)
    numbers = [each for each in job.source.usable().tolist() if job.limit is None or each < job.limit]
    return job.kind.samples * len([each for each in numbers if asked[of[each]] and job.source.place(each)[0] in wanted])


def ask_shard(job: Job, shard: int, generator: Generator, meter: Meter) -> None:
    """Ask what a shard's journal does not hold yet.

    Raises:
        UserError: If the journal cannot be written, or the generator cannot be asked.
        SystemExit: With code 75 when the budget is spent; what was sent before is still answered and kept.
    """
    journal = job.journal(shard)
    there = {name: response for name, (response, _) in journal.read().items()}
    withheld = False
    if journal.damaged:
        print(f"{journal.path}: {journal.damaged} damaged lines are left aside", file=sys.stderr, flush=True)

    def missing() -> Iterator[Request]:
        nonlocal withheld
        for question in questions(job.source, shard, job.limit):
            if isinstance(question, Question):
                ids = job.ids(question)
                for name in ids:
                    if name in there:
                        meter.add(there[name], new=False)
                if all(name in there for name in ids):
                    continue
                for request in job.requests(question):
                    if request.id not in there:
                        if meter.spent:
                            withheld = True
                            return
                        yield request

    record(generator.answers(missing()), journal, there, meter)
    if withheld:
        meter.stop()


def record(
    answers: Iterator[tuple[Request, Response]], journal: Journal, there: dict[str, Response], meter: Meter
) -> None:
    """Append responses as they come, and close the journal; one that comes twice is written once.

    Args:
        answers: What comes.
        journal: Where it is written.
        there: Responses of the journal by request; those that come are added.
        meter: Counts them.

    Raises:
        UserError: If the journal cannot be written.
    """
    try:
        for request, response in answers:
            if request.id not in there or there[request.id].refused:
                there[request.id] = response
                journal.append(response)
                meter.add(response, new=True)
    finally:
        journal.close()
