"""Ask a few requests first, and stop before money is spent where a generator refuses all or does not sample."""

from collections.abc import Sequence
from dataclasses import replace

from fcot.errors import UserError
from fcot.files.lock import claim
from shards.factory.asking import record
from shards.factory.job import Job
from shards.factory.meter import Limits, Meter
from shards.factory.question import Question
from shards.factory.questions import questions
from shards.factory.requests import Generator, Request

PROMPTS, SEEDS = 3, 4
LOOKED_AT = 200  # samples, for prompts of different tasks
HOT = 2.0  # temperature at which whoever samples at all gives several texts, and the highest that most servers take


def probe(job: Job, generator: Generator, shard: int) -> int:
    """Ask three prompts, up to four seeds each; the responses are those of the run, so they are kept.

    Where all texts of each prompt are the same, the model may only be certain of them: one prompt is then asked again
    at temperature 2, and only a generator whose texts are the same there too does not sample.

    Args:
        job: What is made.
        generator: Who is asked.
        shard: Number of the source shard whose questions are asked.

    Returns:
        How many responses are new.

    Raises:
        UserError: If all are refused, or all texts of each prompt are the same though they are drawn with other seeds.
    """
    with claim(job.lock(shard)) as mine:
        if not mine:
            return 0  # another process sees to it
        journal, meter = job.journal(shard), Meter(Limits())
        there = {name: response for name, (response, _) in journal.read().items()}
        asked = _prompts(job, shard)
        every = [each for requests in asked for each in requests]
        if all(each.id in there and there[each.id].refused for each in every):
            there = {}  # what made the generator refuse may have been mended
        record(generator.answers(iter([each for each in every if each.id not in there])), journal, there, meter)
    refused = [there[each.id].refused for each in every]
    if every and all(refused):
        raise UserError(
            f"The generator refuses the first {len(every)} requests: {refused[0]}\n"
            "Change what it complains of, here or at the server, and run the command again."
        )
    texts = [{there[each.id].text for each in requests if not there[each.id].refused} for requests in asked]
    texts = [each for each in texts if each - {""}]
    samples = job.kind.samples >= SEEDS and job.kind.sampling(job.sampling, 0).temperature > 0
    same = samples and len(texts) == PROMPTS and all(len(each) == 1 for each in texts)
    if same and not _varies(generator, asked[0]):
        raise UserError(
            f"The generator gives the same text for {SEEDS} seeds at temperature {job.sampling.temperature}, on "
            f"each of {len(texts)} prompts: {min(texts[0])[:60]!r}.\n"
            "Make it sample (some servers ignore temperature and seed), or ask for one sample: --samples 1."
        )
    return meter.new


def _varies(generator: Generator, requests: Sequence[Request]) -> bool:
    """Return whether the texts of these requests differ at a temperature where no model is certain."""
    hot = [replace(each, sampling=replace(each.sampling, temperature=HOT)) for each in requests]
    return len({response.text for _, response in generator.answers(iter(hot)) if not response.refused}) > 1


def _prompts(job: Job, shard: int) -> list[Sequence[Request]]:
    """Return the first requests of three questions, of different tasks if there are."""
    new: list[Question] = []
    more: list[Question] = []
    for number, question in enumerate(questions(job.source, shard, job.limit)):
        if isinstance(question, Question) and job.ids(question):
            known = question.known.task in {each.known.task for each in new}
            (more if known else new).append(question)
            del more[PROMPTS:]
        if len(new) == PROMPTS or (number >= LOOKED_AT and len(new) + len(more) >= PROMPTS):
            break
    return [list(job.requests(question))[:SEEDS] for question in (new + more)[:PROMPTS]]
