"""ScienceQA (Lu et al., arXiv 2209.09513)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from fcot.evaluation.benchmarks.ai2d import options_of
from fcot.evaluation.benchmarks.benchmark import Benchmark, Source
from fcot.evaluation.benchmarks.options import lettered, with_options
from fcot.evaluation.layouts.find import hub
from fcot.evaluation.layouts.json_rows import json_file, json_lines, picture_file
from fcot.evaluation.layouts.parquet import parquet_rows
from fcot.evaluation.layouts.tsv import tsv_rows
from fcot.evaluation.rows import Picture, Row
from fcot.evaluation.scoring.letters import find_letter, first_letter


class Scienceqa(Benchmark):
    """School questions; those with a picture, on which models that see are compared."""

    title = "ScienceQA"
    splits: ClassVar[Mapping[str, int]] = {"test": 2017}
    max_tiles = 6
    max_new_tokens = 100
    licence = "CC BY-NC-SA 4.0"
    fetch = "Fetch it: hf download lmms-lab/ScienceQA --repo-type dataset --local-dir ROOT/ScienceQA"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "test": {
            "official": (r"problems\.json", r"pid_splits\.json"),
            "internvl": (r"scienceqa/scienceqa_test_img\.jsonl",),
            "parquet": (hub("ScienceQA", "ScienceQA-(?:IMG|FULL)", "test"),),
            "tsv": (r"ScienceQA_TEST\.tsv",),
        }
    }

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the problems of the split that have a picture."""
        problems_file, splits_file = source.files
        problems = json_file(problems_file)
        folder = problems_file.parent / "images" / split
        for pid in json_file(splits_file)[split]:
            if problems[pid]["image"]:
                yield row_of(problems[pid], picture_file(folder / pid / problems[pid]["image"]))

    def internvl(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of InternVL's file."""
        (file,) = source.files
        for row in json_lines(file):
            yield row_of(row, picture_file(file.parents[2] / row["image"]))

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files that have a picture: of ScienceQA-IMG where it is there."""
        with_pictures = [file for file in source.files if "ScienceQA-IMG" in file.parts]
        for row, image in parquet_rows(with_pictures or source.files, "image"):
            if image is not None:
                yield row_of(row, image)

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file."""
        (file,) = source.files
        for row, pictures in tsv_rows(file):
            if pictures:
                hint = {"hint": row["hint"]}
                yield Row("", pictures, row["question"], (row["answer"],), options_of(row), fields=hint)

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return hint, question and options, with the instruction to give the letter; an empty hint has no line."""
        hint = row.fields["hint"]
        named = f"Context: {hint}" if protocol == "lmms_eval" else hint
        question = f"{named}\n{row.question}" if hint else row.question
        return with_options(question, row.choices, chinese=protocol == "vlmevalkit")

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return whether the letter that InternVL's script takes, or the one that is named (definition), is right."""
        (letter,) = row.references
        return {
            "internvl2": float(first_letter(answer, row.choices) == letter),
            "definition": float(find_letter(answer, row.choices) == letter),
        }


def row_of(row: dict[str, Any], picture: Picture) -> Row:
    """Return a row whose answer is the number of an option."""
    choices = lettered(row["choices"])
    fields = {"hint": row.get("hint") or ""}
    return Row("", (picture,), row["question"], ([*choices][int(row["answer"])],), choices, fields=fields)
