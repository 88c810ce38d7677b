"""OCRBench (Liu et al., arXiv 2305.07895)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from fcot.evaluation.benchmarks.benchmark import SHORT, Benchmark, Column, Source
from fcot.evaluation.benchmarks.served_vqa import answers_of
from fcot.evaluation.layouts.find import hub
from fcot.evaluation.layouts.json_rows import json_file, picture_file
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import listed, tsv_rows
from fcot.evaluation.rows import Row, Scored
from fcot.evaluation.scoring.ocrbench import FORMULA, group_of
from fcot.metrics.contains import contains


class Ocrbench(Benchmark):
    """A thousand questions of ten types; an answer is right if it contains an accepted one."""

    title = "OCRBench"
    splits: ClassVar[Mapping[str, int]] = {"test": 1000}
    max_tiles = 24
    max_new_tokens = 1024
    licence = "those of its 25 sources"
    fetch = "Fetch it: hf download echo840/OCRBench --repo-type dataset --local-dir ROOT/OCRBench"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "test": {
            "official": (r"OCRBench\.json",),
            "parquet": (hub("OCRBench", "data", "test"),),
            "tsv": (r"OCRBench\.tsv",),
        }
    }

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the authors' file, whose ids repeat and whose answers are a text or a list."""
        (file,) = source.files
        for row in json_file(file):
            image = picture_file(file.parent / "OCRBench_Images" / row["image_path"])
            yield Row("", (image,), row["question"], answers_of(row["answers"]), group=row["type"])

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files."""
        for row, image in pictured_rows(source.files, "image"):
            yield Row("", (image,), row["question"], answers_of(row["answer"]), group=row["question_type"])

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file."""
        (file,) = source.files
        for number, (row, (image,)) in enumerate(tsv_rows(file)):
            yield Row("", (image,), row["question"], tuple(listed(row["answer"], file, number)), group=row["category"])

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the question; VLMEvalKit, by which InternVL2 was scored, adds the instruction to be short."""
        return row.question.strip() if protocol == "lmms_eval" else f"{row.question}\n{SHORT}"

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return whether the answer contains an accepted one; formulas are compared without spaces."""
        score = contains(answer, row.references, formula=row.group == FORMULA)
        return {"internvl2": score, "definition": score}

    def columns(self, scored: Sequence[Scored], scoring: str) -> list[Column]:
        """Return one column over all rows, and one for each of the five groups, which papers print as sums."""
        units = {each.row.id: each.scores[scoring] or 0.0 for each in scored}
        groups: dict[str, dict[str, float]] = {}
        for each in scored:
            groups.setdefault(group_of(each.row.group), {})[each.row.id] = units[each.row.id]
        return [Column(self.name(), self.title, {"": units}, parts=groups)]
