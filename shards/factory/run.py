"""The whole of `fcot data cot`, `rewrite`, `label` and `judge`: ask, judge, write, and say what came of it."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.progress import track

from fcot.errors import UserError
from fcot.files.json_files import write_json
from shards.factory.asking import ask_all
from shards.factory.generators import REMOTE, generator_of
from shards.factory.job import JOB, Job, journal_folder
from shards.factory.kinds import Cot, Kind, Label, Rewrite
from shards.factory.leaving import leaving_on_sigterm
from shards.factory.meter import Limits, Meter
from shards.factory.options import Options
from shards.factory.probing import probe
from shards.factory.requests import Sampling
from shards.factory.statistics import lines, trust
from shards.factory.writing import write
from shards.format.shard_set import ShardSet

KINDS: dict[str, type[Kind]] = {"cot": Cot, "rewrite": Rewrite, "label": Label}
LAST_RUN = "last_run.json"


@leaving_on_sigterm()
def run(
    name: str,
    how: Mapping[str, Any],
    source: Path,
    output: Path,
    where: Sequence[str],
    sampling: Sampling,
    options: Options,
) -> dict[str, Any]:
    """Make a set.

    Args:
        name: The kind.
        how: Its arguments.
        source: The set that is read.
        output: The set that is written.
        where: Addresses, or a folder, of the generator.
        sampling: How texts are drawn.
        options: How the run is carried out.

    Returns:
        The manifest; {} where this process asked only for a part of the shards.

    Raises:
        UserError: If set, generator or an option is wrong, or nothing was accepted.
        SystemExit: With code 75 where the same command goes on.
    """
    part = part_of(options.part)
    if sampling.max_tiles is not None and any(each.startswith(REMOTE) for each in where):
        raise UserError(
            f"--max_tiles is {sampling.max_tiles}, and {where[0]} cuts its pages itself.\n"
            "Limit its tiles where it is started, or give a model folder."
        )
    kind, found = KINDS[name](**how), ShardSet(source)
    check_tasks(kind, found)
    generator = generator_of(
        where,
        options.model,
        concurrency=options.concurrency,
        timeout=options.timeout,
        patience=options.patience,
        device=options.device,
        dtype=options.dtype,
    )
    job = Job(found, output, kind, sampling, generator.identity, options.limit)
    job.save(how)
    meter = Meter(Limits(options.budget, part, options.prompt_price, options.answer_price))
    start = perf_counter()
    try:
        if part[0] < job.shards:
            meter.new += probe(job, generator, part[0])
        ask_all(job, generator, meter)
    finally:
        tell(job, meter, generator.faults(), perf_counter() - start)
        generator.close()
    if part[1] > 1:
        print(f"Part {options.part} is asked. When all parts are: fcot data judge {output}")
        return {}
    return finish(job, options)


def judge_again(
    output: Path, verifiers: Mapping[str, str | None] | None, source: Path | None, options: Options
) -> dict[str, Any]:
    """Judge the responses of a set again; see `shards.factory.cli.judge`.

    Raises:
        UserError: If there are no responses, or the source is not the set that was asked about.
    """
    return finish(load_job(output, verifiers, source), options)


def load_job(output: Path, verifiers: Mapping[str, str | None] | None = None, source: Path | None = None) -> Job:
    """Return the job that responses were asked for.

    Args:
        output: Folder of the set.
        verifiers: What compares answers, by task (default: as then).
        source: Where the source lies now (default: where it lay).

    Raises:
        UserError: If there are no responses, or the source is not the set that was asked about.
    """
    file = journal_folder(output) / JOB
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        how = {**told["arguments"], **({"verifiers": verifiers} if verifiers else {})}
        kind = KINDS[told["kind"]](**how)
        sampling, where = Sampling(**told["sampling"]), Path(told["source"])
    except FileNotFoundError as error:
        raise UserError(
            f"There are no responses for {output}: {file} is missing.\nGive the folder that `fcot data cot` wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error!r}).\nRun the command that made it again.") from error
    found = ShardSet(source or where)
    if found.manifest_hash != told["source_set"]:
        raise UserError(
            f"{found.source} is not the set that was asked about.\nGive that one: --source FOLDER, as it was then."
        )
    check_tasks(kind, found)
    return Job(found, output, kind, sampling, told["generator"], told["limit"])


def finish(job: Job, options: Options) -> dict[str, Any]:
    """Judge, write and say what came of it."""

    def progress(rows: Iterable[Any], total: int) -> Iterable[Any]:
        return track(rows, "Judging", total=total)

    workers = options.workers or os.cpu_count() or 1
    manifest = write(
        job, workers=workers, shard_size=options.shard_size, overwrite=options.overwrite, progress=progress
    )
    report = manifest["data_factory"]["statistics"]
    print("\n".join(lines(report)))
    if skipped := report.get("skipped"):
        print("left out: " + ", ".join(f"{count} {reason}" for reason, count in skipped.items()))
    print("\n".join(trust(report)))
    print(f"{job.output}: {manifest['samples']} samples in {len(manifest['shards'])} shards")
    print(f"Judge a hundred yourself: fcot data review {job.output}")
    return manifest


def tell(job: Job, meter: Meter, faults: Mapping[str, int], seconds: float) -> None:
    """Say what asking took, and write it beside the responses."""
    taken = {
        "responses": meter.there,
        "new": meter.new,
        "prompt_tokens": meter.prompt_tokens,
        "answer_tokens": meter.answer_tokens,
        "seconds": round(seconds, 1),
        "faults": dict(faults),
    }
    with suppress(OSError):  # a disk that is full is spoken of by what was to be kept
        write_json(job.folder / LAST_RUN, taken)
    print(f"{meter.there} responses, {meter.new} of them new; {meter.cost()}, in {seconds:.0f} s")
    if faults:
        print("failed tries: " + ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items())))


def check_tasks(kind: Kind, source: ShardSet) -> None:
    """Refuse a set with a task that has no verifier, before anything is asked.

    Raises:
        UserError: If there is such a task.
    """
    for task in source.names("task")[0]:
        if not kind.leaves_out(task):
            kind.verifier(task)


def part_of(text: str) -> tuple[int, int]:
    """Return the number from 0 and the count of "2/8".

    Raises:
        UserError: If it is no such text.
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UserError(f"--part is {text!r}.\nGive which of how many, such as 2/8.")
    return int(number) - 1, int(of)
