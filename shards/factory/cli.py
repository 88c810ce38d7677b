"""The verbs `fcot data …`."""

from pathlib import Path
from typing import Any

from shards.factory.options import Options


def cot(
    source: Path,
    output: Path,
    *,
    generator: list[str],
    verifiers: dict[str, str | None],
    samples: int = 8,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_tokens: int = 1024,
    max_tiles: int | None = None,
    template: Path | None = None,
    most: int = 2,
    mix: float = 0.5,
    chance_level: float = 0.05,
    seed: int = 0,
    **options: Any,
) -> None:
    """Draw chains of thought and keep those whose form, conclusion and chain are verified.

    Args:
        source: Folder of shards with questions and known answers.
        output: Folder of the new set; responses lie in OUTPUT.journal and are never asked twice.
        generator: Model folder, or one or more addresses such as http://localhost:8000/v1.
        verifiers: What compares answers, by task: '{"*": "text", "invoices": "money"}'; null leaves a task out.
        samples: Chains drawn a question.
        temperature: 0 always takes the likeliest token; 1 draws from the model's own distribution.
        top_p: Draw among the likeliest tokens whose probabilities add up to this.
        max_tokens: Longest chain.
        max_tiles: Most tiles of a page, for a model folder.
        template: File with the text of a request, in which {question} stands for the question.
        most: Chains kept a question, the most different ones.
        mix: Share of chains where one is kept a question; beside several, the sample as it is stands once at most.
        chance_level: Questions are dropped that guessing solves as often with this probability; 1 keeps all.
        seed: Another seed draws other chains.
        **options: See `Options`.

    Raises:
        UserError: If set, generator or an option is wrong, or nothing was accepted.
        SystemExit: With code 75 where the same command goes on: SIGTERM, budget, patience.
    """
    from shards.factory.kinds.cot import TEMPLATE
    from shards.factory.requests import Sampling
    from shards.factory.run import run

    how = {"verifiers": verifiers, "template": text_of(template, TEMPLATE), "samples": samples}
    how |= {"most": most, "mix": mix, "level": chance_level}
    sampling = Sampling(temperature, top_p, max_tokens, seed, max_tiles)
    run("cot", how, source, output, generator, sampling, Options(**options))


def rewrite(
    source: Path,
    output: Path,
    *,
    generator: list[str],
    verifiers: dict[str, str | None],
    examples: Path,
    samples: int = 1,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_tokens: int = 512,
    template: Path | None = None,
    seed: int = 0,
    **options: Any,
) -> None:
    """Rewrite plain answers in the tone of a teacher; what is not verified stays as it is.

    Args:
        source: Folder of shards with questions and known answers.
        output: Folder of the new set; responses lie in OUTPUT.journal and are never asked twice.
        generator: Model folder, or one or more addresses such as http://localhost:8000/v1; no picture is sent.
        verifiers: What compares answers, by task: '{"*": "text", "invoices": "money"}'; null leaves a task out.
        examples: Folder of shards with the teacher's own answers, three of which are shown for each task.
        samples: Tries a question.
        temperature: 0 always takes the likeliest token; 1 draws from the model's own distribution.
        top_p: Draw among the likeliest tokens whose probabilities add up to this.
        max_tokens: Longest answer.
        template: File with the text of a request; {examples}, {question} and {answer} stand for these.
        seed: Another seed draws other texts.
        **options: See `Options`.

    Raises:
        UserError: If set, generator or an option is wrong.
        SystemExit: With code 75 where the same command goes on: SIGTERM, budget, patience.
    """
    from shards.factory.examples import examples_of
    from shards.factory.kinds.rewrite import TEMPLATE
    from shards.factory.requests import Sampling
    from shards.factory.run import run

    how = {"verifiers": verifiers, "template": text_of(template, TEMPLATE), "samples": samples}
    how |= {"examples": examples_of(examples)}
    run("rewrite", how, source, output, generator, Sampling(temperature, top_p, max_tokens, seed), Options(**options))


def label(
    source: Path,
    output: Path,
    *,
    generator: list[str],
    verifiers: dict[str, str | None],
    known: bool = True,
    max_tokens: int = 2048,
    max_tiles: int | None = None,
    template: Path | None = None,
    **options: Any,
) -> None:
    """Have a teacher read pages, and keep what agrees with the known text or with a second reading.

    Args:
        source: Folder of shards with pages.
        output: Folder of the new set; responses lie in OUTPUT.journal and are never asked twice.
        generator: Model folder, or one or more addresses such as http://localhost:8000/v1.
        verifiers: What compares readings, by task: '{"*": "text", "tables": "table2markdown"}'.
        known: The set's answers are what its pages say; false asks for a second reading of a smaller picture instead.
        max_tokens: Longest reading.
        max_tiles: Most tiles of a page, for a model folder.
        template: File with the text of a request, in which {question} stands for the question.
        **options: See `Options`.

    Raises:
        UserError: If set, generator or an option is wrong, or nothing was accepted.
        SystemExit: With code 75 where the same command goes on: SIGTERM, budget, patience.
    """
    from shards.factory.requests import Sampling
    from shards.factory.run import run

    how = {"verifiers": verifiers, "template": text_of(template, "{question}"), "known": known}
    run("label", how, source, output, generator, Sampling(0.0, 1.0, max_tokens, 0, max_tiles), Options(**options))


def judge(
    output: Path,
    *,
    verifiers: dict[str, str | None] | None = None,
    source: Path | None = None,
    workers: int | None = None,
    shard_size: int = 1000,
    overwrite: bool = False,
) -> None:
    """Judge the responses of a set again under today's rules and write it anew; nothing is asked.

    Args:
        output: Folder of the set; its responses lie in OUTPUT.journal.
        verifiers: What compares answers, by task (default: as before).
        source: Where the source lies now (default: where it lay).
        workers: Processes that judge and write (default: one a core).
        shard_size: Samples in a shard of the new set.
        overwrite: Replace a set at the output that was made in another way.

    Raises:
        UserError: If there are no responses, or the source is not the set that was asked about.
    """
    from shards.factory.run import judge_again

    options = Options(workers=workers, shard_size=shard_size, overwrite=overwrite)
    judge_again(output, verifiers, source, options)


def review(source: Path, *, output: Path = Path("review.html"), samples: int = 100, seed: int = 0) -> None:
    """Write a page with samples of a set for a person to judge: the picture beside question, known answer and chain.

    Args:
        source: Folder of a set that `fcot data` wrote.
        output: HTML file, complete in itself.
        samples: How many are drawn.
        seed: Another seed draws others.

    Raises:
        UserError: If the set holds nothing that was generated, or the file cannot be written.
    """
    from shards.factory.review import write_review

    number = write_review(source, output, samples, seed)
    print(f"{output}: {number} samples to judge")


def text_of(file: Path | None, default: str) -> str:
    """Return the text of a template.

    Raises:
        UserError: If the file cannot be read.
    """
    from fcot.errors import UserError

    if file is None:
        return default
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"The template {file} cannot be read ({error}).\nGive a file of UTF-8 text.") from error
