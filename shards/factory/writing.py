"""Judge the journals and write the set: a pure function of source, responses and rules."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fcot.errors import SampleError, UserError
from fcot.registry import snake_case
from shards.engines import Local
from shards.factory.job import Job
from shards.factory.journal import Journal, Place, response_at
from shards.factory.judging import Case, Judges
from shards.factory.kinds import ORIGINAL, Form, Judged
from shards.factory.question import Known, Question
from shards.factory.questions import question_of, questions
from shards.factory.requests import Response
from shards.factory.statistics import Statistics, is_reasoned
from shards.factory.texts import repetition
from shards.format.manifest import Progress
from shards.format.writer import write_set

RULES = 1  # of verifiers and choice; another number where what they decide has changed
ROWS = "rows.npy"
FORM_SAMPLES = 500  # known answers of a task that its form is measured on
COLUMNS = ("number", "shard", "offset", "length", "right", "responses")


@dataclass(frozen=True)
class Chosen:
    """A sample that is written.

    Attributes:
        number: Of its sample in the source.
        shard: Of its journal.
        place: Of its response there; None is the sample as it is.
        request: Id of that response's request; "" for the sample as it is.
        right: Right conclusions among the responses to its question.
        responses: Their number.
    """

    number: int
    shard: int
    place: Place | None
    request: str
    right: int
    responses: int

    def row(self) -> tuple[int, ...]:
        """Return it as numbers."""
        offset, length = (-1, 0) if self.place is None else (self.place.offset, self.place.length)
        return (self.number, self.shard, offset, length, self.right, self.responses)


@dataclass(frozen=True)
class Sample:
    """A sample with another answer.

    Attributes:
        record: Its JSON.
        pictures: Bytes of its pictures by member, as they were.
    """

    record: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(repr=False)

    def members(self, key: str) -> dict[str, str | bytes]:
        """Return the sample in the canonical shard form."""
        return {"__key__": key, **self.pictures, "json": json.dumps(self.record, ensure_ascii=False).encode()}


@dataclass
class Draw:
    """Gives the sample of a number of the new set; picklable.

    Attributes:
        job: What is made.
        rows: File with a row for each sample.
    """

    job: Job
    rows: Path

    def __call__(self, index: int) -> Sample:
        """Return a sample."""
        number, shard, offset, length, right, responses = np.load(self.rows, mmap_mode="r")[index].tolist()
        question = question_of(self.job.source, number)
        if offset < 0:
            return Sample(question.record, question.pictures)
        response = response_at(self.job.journal(shard).path, Place(offset, length))
        return self.written(question, response, f"{right}/{responses}")

    def written(self, question: Question, response: Response, solved: str) -> Sample:
        """Return a sample whose last answer is made of a response."""
        changed = dict(self.job.kind.answer(question, response))
        turns = [*question.turns, {"from": "gpt", "value": changed.pop("answer")}]
        kind, known = self.job.kind, question.known
        origin = {
            "request": response.id,
            "key": f"{self.job.source.paths[question.shard].name}/{question.key}",
            "model": response.model,
            "template": self.job.template_sha256,
            "verifier": kind.verifier_names.get(known.task, kind.verifier_names.get("*")),
            "rules": RULES,
            "solved": solved,
            "tokens": [response.prompt_tokens, response.answer_tokens],
        }
        source = f"{question.record.get('source', self.job.source.source.name)}+{kind.name}"
        return Sample(
            {**question.record, **changed, "conversations": turns, "source": source, "origin": origin},
            question.pictures,
        )


def write(
    job: Job, *, workers: int, shard_size: int, overwrite: bool, progress: Progress | None = None
) -> dict[str, Any]:
    """Judge what is in the journals and write the set.

    Args:
        job: What is made.
        workers: Processes that judge and write.
        shard_size: Samples in a shard of the new set.
        overwrite: Replace a set at the output that was not made by the factory.
        progress: Wraps the iteration over shards, given how many there are.

    Returns:
        The manifest.

    Raises:
        UserError: If nothing was accepted, or the set cannot be written.
    """
    statistics, digest, identity = Statistics(), hashlib.sha256(), hashlib.sha256()
    chosen: list[tuple[int, ...]] = []
    forms = forms_of(job)
    with Judges(job.kind, workers) as judges:
        wrap = progress or (lambda rows, _: rows)
        for shard in wrap(range(job.shards), job.shards):
            for each in judge_shard(job, shard, judges, forms, statistics, digest):
                chosen.append(each.row())
                # not its place in the journal, which depends on the order in which responses came
                identity.update(f"{each.number} {each.request} {each.right}/{each.responses}\n".encode())
    report = statistics.report()
    if not chosen:
        raise UserError(
            f"No response was accepted: {_most_common(report)}.\n"
            f"Look at the responses in {job.folder}; they are kept, and `fcot data judge` judges them again."
        )
    described = {
        **job.kind.describe(),
        "source": job.source.source.name,
        "source_set": job.source.manifest_hash,
        "responses": digest.hexdigest(),
        "chosen": identity.hexdigest(),
        "rules": RULES,
        "template": job.kind.template,
        "generator": job.identity,
        "sampling": vars(job.sampling),
        "statistics": report,
    }
    with TemporaryDirectory(prefix="fcot-") as folder:  # of this process: another one may write other rows meanwhile
        rows = Path(folder) / ROWS
        np.save(rows, np.asarray(chosen, dtype=np.int64))
        return write_set(
            job.output,
            Draw(job, rows),
            len(chosen),
            shard_size=shard_size,
            engine=Local(workers=workers),
            describe={"data_factory": described},
            resume=True,
            replaces=lambda manifest: overwrite or "data_factory" in manifest,
        )


def _most_common(report: Mapping[str, Any]) -> str:
    reasons: dict[str, int] = {}
    for row in report["tasks"].values():
        for reason, count in row["rejected"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    ordered = sorted(reasons.items(), key=lambda each: -each[1])[:3]
    return ", ".join(f"{count} times {reason!r}" for reason, count in ordered) or "there are none"


def forms_of(job: Job) -> dict[str, Form]:
    """Return what the known answers of each task look like, where they are reasoned."""
    texts: dict[str, list[str]] = {}
    usable = [number for number in job.source.usable().tolist() if job.limit is None or number < job.limit]
    step = max(1, len(usable) // (FORM_SAMPLES * 20))
    for number in usable[::step]:
        try:
            known = question_of(job.source, number).known
        except SampleError:
            continue
        if len(texts.setdefault(known.task, [])) < FORM_SAMPLES:
            texts[known.task].append(known.gold)
    forms = {}
    for task, golds in texts.items():
        if sum(map(is_reasoned, golds)) * 2 > len(golds):
            low, high = np.quantile([len(text) for text in golds], (0.01, 0.99))
            often = float(np.quantile([repetition(text) for text in golds], 0.99))
            forms[task] = Form(float(low) / 3, float(high) * 3, often)
    return forms


def judge_shard(
    job: Job, shard: int, judges: Judges, forms: Mapping[str, Form], statistics: Statistics, digest: Any
) -> Iterator[Chosen]:
    """Judge a shard's responses and yield what is written of it.

    A question without all of its responses is left out, and counted.
    """
    there = Journal(job.journal(shard).path).read()
    asked: list[tuple[Known, list[str]]] = []
    last: dict[str, Known] = {}
    others: list[Known | None] = []
    for question in questions(job.source, shard, job.limit):
        if not isinstance(question, Question):
            statistics.skipped[question.reason] += 1
            continue
        if job.kind.leaves_out(question.known.task):
            statistics.skipped["task_left_out"] += 1
            continue
        ids = job.ids(question)
        if any(name not in there for name in ids):
            statistics.skipped["not_answered"] += 1
            continue
        known = question.known
        asked.append((known, ids))
        others.append(last.get(known.task))
        last[known.task] = known
    cases = (
        Case(known, [there[name][0] for name in ids], forms.get(known.task, Form()), other)
        for (known, ids), other in zip(asked, others, strict=True)
        if ids
    )
    found = judges.judge(cases)
    judged = [(known, ids, next(found) if ids else []) for known, ids in asked]
    for known, ids, verdicts in judged:
        if ids:
            tally = statistics.tasks[known.task]
            tally.verifier = snake_case(type(job.kind.verifier(known.task)).__name__)
            tally.add(known.gold, known.chance, [there[name][0] for name in ids], verdicts)
        for name in ids:
            digest.update(f"{name} {there[name][0].text!r} {there[name][0].finish_reason}\n".encode())
    for known, ids, verdicts in judged:
        yield from _chosen(job, shard, known, ids, verdicts, there, statistics)


def _chosen(
    job: Job,
    shard: int,
    known: Known,
    ids: list[str],
    verdicts: list[Judged],
    there: Mapping[str, tuple[Response, Place]],
    statistics: Statistics,
) -> Iterator[Chosen]:
    tally = statistics.tasks[known.task]
    chance = tally.guess if known.chance is None else known.chance
    right = sum(each.right for each in verdicts)
    for at in job.kind.choose(known, [there[name][0].text for name in ids], verdicts, chance):
        tally.kept_as_they_are += at == ORIGINAL
        tally.written += at != ORIGINAL
        place, request = (None, "") if at == ORIGINAL else (there[ids[at]][1], ids[at])
        yield Chosen(known.number, shard, place, request, right, len(verdicts))
