"""ChartQA (Masry et al., arXiv 2203.10244)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from fcot.errors import UserError
from fcot.evaluation.benchmarks.benchmark import SHORT, Benchmark, Column, Source, lacking
from fcot.evaluation.benchmarks.served_vqa import answers_of
from fcot.evaluation.layouts.find import hub
from fcot.evaluation.layouts.json_rows import json_file, json_lines, picture_file
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import tsv_rows
from fcot.evaluation.rows import Row, Scored
from fcot.metrics.relaxed_accuracy import relaxed_accuracy

HALVES = ("human", "augmented")


class Chartqa(Benchmark):
    """Questions on charts, half by people and half by a model; its score is the mean of the halves'."""

    title = "ChartQA"
    splits: ClassVar[Mapping[str, int]] = {"test": 2500}
    max_tiles = 12
    max_new_tokens = 100
    licence = "GPL-3.0"
    fetch = "Fetch it: hf download lmms-lab/ChartQA --repo-type dataset --local-dir ROOT/ChartQA"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "test": {
            "official": (r"test/test_human\.json", r"test/test_augmented\.json"),
            "internvl": (r"chartqa/test_human\.jsonl", r"chartqa/test_augmented\.jsonl"),
            "parquet": (hub("ChartQA", "data", "test"),),
            "tsv": (r"ChartQA_TEST\.tsv",),
        }
    }

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the authors' files."""
        for file in source.files:
            for row in json_file(file):
                image = picture_file(file.parent / "png" / row["imgname"])
                yield Row("", (image,), row["query"], (row["label"],), group=half(file.name))

    def internvl(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of InternVL's files."""
        for file in source.files:
            for row in json_lines(file):
                image = picture_file(file.parents[2] / row["image"])
                yield Row("", (image,), row["question"], (row["answer"],), group=half(file.name))

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files: lmms-lab's, or the mirrors that keep the authors' names of columns."""
        for row, image in pictured_rows(source.files, "image"):
            question = row["question"] if "question" in row else row["query"]
            answers = answers_of(row["answer"] if "answer" in row else row["label"])
            machine = row.get("human_or_machine")
            group = half(row["type"]) if machine is None else HALVES[machine]
            yield Row("", (image,), question, answers, group=group)

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file.

        Raises:
            UserError: If it does not say which half a row is of.
        """
        (file,) = source.files
        for row, (image,) in tsv_rows(file):
            if "split" not in row:
                raise UserError(
                    f"{file} has no column split, which tells human rows from augmented ones: ChartQA's score is the "
                    f"mean of the two.\n{self.fetch}"
                )
            yield Row("", (image,), row["question"], (row["answer"],), group=half(row["split"]))

    def notes(self, rows: Sequence[Row], source: Source) -> list[str]:
        """Return a warning if a half has no rows."""
        return lacking(self.title, HALVES, rows)

    def columns(self, scored: Sequence[Scored], scoring: str) -> list[Column]:
        """Return one column, the mean of its halves, which are its parts."""
        return [replace(column, parts=column.units) for column in super().columns(scored, scoring)]

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the question with the instruction to be short."""
        if protocol == "lmms_eval":
            return f"{row.question}\nAnswer the question with a single word."
        return f"{row.question}{' ' if protocol == 'internvl2' else chr(10)}{SHORT}"

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return relaxed accuracy; published scores allow five per cent of the answer, the definition of the truth."""
        references = list(row.references)
        return {
            "internvl2": relaxed_accuracy(answer, references, of_answer=True),
            "definition": relaxed_accuracy(answer, references),
        }


def half(name: str) -> str:
    """Return "human" or "augmented" for a name that says which.

    Raises:
        ValueError: If it says neither.
    """
    for each in HALVES:
        if each in name:
            return each
    raise ValueError(f"{name!r} is neither human nor augmented")
