"""The whole of `evaluate`: find, answer, score, compare, write."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fcot.convert.auto_convert import native_folder
from fcot.errors import UserError
from fcot.evaluation.benchmarks import published
from fcot.evaluation.results.check import check_published, require_published
from fcot.evaluation.results.picture import draw
from fcot.evaluation.results.result import result_of
from fcot.evaluation.results.slices import difficult_rows
from fcot.evaluation.results.table import markdown
from fcot.evaluation.results.terminal import print_result
from fcot.evaluation.results.tested import TestedModel, TestedSet
from fcot.evaluation.rows import Answer
from fcot.evaluation.run.pages import Page
from fcot.evaluation.run.progress import Progress
from fcot.evaluation.run.reader import Reader
from fcot.evaluation.run.session import Options, Processes, answer_set, labels, processes
from fcot.evaluation.run.sets import BenchmarkSet, find_sets
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.shipped import shipped
from fcot.models.device import device_of
from fcot.models.token_counts import TokenCounts

FEWER_TILES = "fewer_tiles"


@dataclass(frozen=True)
class Request:
    """What a user asked for; see `fcot.evaluation.evaluate`."""

    models: Sequence[Path]
    benchmarks: str
    root: Path
    protocol: str
    scoring: str
    output: Path
    difficult: float | None
    check_published: str | None
    allow_partial: bool
    limit: int | None
    layout: str | None
    max_tiles: int | None
    max_new_tokens: int | None
    reducer: tuple[str | None, Mapping[str, Any] | None]
    visual_tokens: int | str | None
    budget: int | None
    batch_size: int
    batch_tokens: int
    device: str
    dtype: str
    seed: int

    @property
    def options(self) -> Options:
        """How sets are answered."""
        return Options(self.protocol, self.max_tiles, self.max_new_tokens, self.batch_size, self.batch_tokens)


def run(asked: Request) -> None:
    """Evaluate models; see `fcot.evaluation.evaluate`.

    Raises:
        UserError: If a model, a set or an option is missing or wrong.
        SystemExit: With 1 if published scores were to be checked and one does not hold.
    """
    names = labels(asked.models)
    folders = [ModelFolder(native_folder(shipped(path))) for path in asked.models]
    if asked.difficult is not None and asked.reducer[0] is not None:
        raise UserError("--difficult shows pages at fewer tiles, and --reduce is given.\nGive one of them.")
    if asked.check_published is not None:
        require_published(asked.check_published, list(published()))  # before hours of work
    check_asked_tokens(folders, asked)
    sets, notes = find_sets(asked.benchmarks, asked.root, layout=asked.layout, limit=asked.limit)
    for of in sets:
        for row in of.rows[:1]:
            of.benchmark.prompt(row, asked.protocol)  # refuses a protocol without a prompt before hours of work
    with processes() as among:
        pages = look_at(sets, asked.output / "pages", among)
        tested = [
            answered(folder, name, sets, pages, asked, among, asked.reducer)
            for folder, name in zip(folders, names, strict=True)
        ]
        harder: dict[str, set[str]] = {}
        if asked.difficult is not None:
            reducer = (FEWER_TILES, {"keep": asked.difficult})
            few = answered(folders[0], f"{names[0]} at fewer tiles", sets, pages, asked, among, reducer)
            harder = {of.name: difficult_rows(of, asked.scoring) for of in few.sets}
        if among.rank:
            return
        holds = report(asked, tested, harder, notes)
    if not holds:
        raise SystemExit(1)


def is_elastic(folder: ModelFolder) -> bool:
    """Return whether a model reads pages with the visual tokens that are asked for."""
    return bool(getattr(folder.config, "ratios", None))


def check_asked_tokens(folders: Sequence[ModelFolder], asked: Request) -> None:
    """Check that the elastic students can give what is asked for, before hours of work.

    Raises:
        UserError: If one cannot, or none of the models is elastic.
    """
    for folder in [each for each in folders if is_elastic(each)] or folders[:1]:
        TokenCounts(folder.config, asked.visual_tokens, asked.budget)


def look_at(sets: Sequence[BenchmarkSet], folder: Path, among: Processes) -> list[dict[str, list[Page]]]:
    """Return the pages of each set's rows; one process looks, and the others read what it found."""
    if among.rank:
        among.wait()
    pages = []
    for of in sets:
        number = len({picture.name for row in of.rows for picture in row.pictures})
        with Progress(f"{of.benchmark.title} {of.split}: pages", number, number) as shown:
            pages.append(of.pages(folder, partial(shown.advance, 1, 1), 4))
    if not among.rank:
        among.wait()
    return pages


def answered(
    folder: ModelFolder,
    name: str,
    sets: Sequence[BenchmarkSet],
    pages: Sequence[Mapping[str, list[Page]]],
    asked: Request,
    among: Processes,
    reducer: tuple[str | None, Mapping[str, Any] | None],
) -> TestedModel:
    """Answer all sets with a model, and score the answers."""
    reader = Reader(
        folder,
        device=device_of(asked.device),
        dtype=asked.dtype,
        reducer=reducer,
        visual_tokens=asked.visual_tokens if is_elastic(folder) else None,
        budget=asked.budget if is_elastic(folder) else None,
    )
    base = asked.output / "answers" / name.replace("/", "-").replace(" ", "-")
    tested = []
    for of, its_pages in zip(sets, pages, strict=True):
        answers = answer_set(reader, of, its_pages, base / of.name, asked.options, among, name)
        tested.append(TestedSet.of(of.benchmark, of.split, of.whole, of.rows, answers))
        if not among.rank:
            write_submission(of, answers, asked.output / "submissions" / base.name)
    ratio = reader.counts.ratio_of(torch.tensor([reader.counts.most]))
    return TestedModel(name, ratio, tested, reader.reducer_settings or {}, reader.counts.asked_for)


def write_submission(of: BenchmarkSet, answers: Mapping[str, Answer], folder: Path) -> None:
    """Write the files that a test server or an official judge reads, for a whole split."""
    if not of.whole:
        return
    for name, text in of.benchmark.submission(of.rows, answers, of.split).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def report(asked: Request, tested: Sequence[TestedModel], harder: Mapping[str, set[str]], notes: Sequence[str]) -> bool:
    """Write, print and check the result; return whether published scores hold, if they were to be checked."""
    scores = list(published())
    found = result_of(
        tested,
        scores,
        scoring=asked.scoring,
        protocol=asked.protocol,
        allow_partial=asked.allow_partial,
        difficult=harder,
        notes=notes,
        seed=asked.seed,
    )
    checks = []
    if asked.check_published is not None:
        columns = tested[0].columns(asked.scoring, allow_partial=asked.allow_partial)
        checks = check_published(columns, asked.check_published, scores, asked.scoring, seed=asked.seed)
        found["checks"] = [vars(check) for check in checks]
    asked.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (asked.output / "results.json").write_text(text + "\n", encoding="utf-8")
    (asked.output / "RESULTS.md").write_text(markdown(found), encoding="utf-8")
    draw(found, asked.output / "results.png")
    print_result(found)
    for check in checks:
        print(check.line())
    print(asked.output / "RESULTS.md")
    return asked.check_published is None or (bool(checks) and all(check.holds for check in checks))
