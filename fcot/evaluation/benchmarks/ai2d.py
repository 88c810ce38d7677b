"""AI2D (Kembhavi et al., arXiv 1603.07396)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from fcot.errors import UserError
from fcot.evaluation.benchmarks.benchmark import Benchmark, Source
from fcot.evaluation.benchmarks.options import lettered, with_options, without_options
from fcot.evaluation.layouts.find import hub
from fcot.evaluation.layouts.json_rows import json_file, json_lines, picture_file
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import tsv_rows
from fcot.evaluation.rows import Picture, Row
from fcot.evaluation.scoring.letters import find_letter
from fcot.metrics.option_letter import option_letter


class Ai2d(Benchmark):
    """Questions on diagrams of science books.

    In "test" the diagram's labels are painted over and replaced by letters, as in InternVL2's and the paper's scores;
    "test_no_mask" shows both, and is easier by several points. They are never mixed.
    """

    title = "AI2D"
    splits: ClassVar[Mapping[str, int]] = {"test": 3088, "test_no_mask": 3088}
    max_tiles = 6
    max_new_tokens = 10
    licence = "not established (CC BY-SA by some accounts)"
    fetch = "Fetch it: hf download lmms-lab/ai2d --repo-type dataset --local-dir ROOT/ai2d (or ai2d-no-mask)"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "test": {
            "official": (r"ai2d/ai2d_test_ids\.csv", r"ai2d/questions/[^/]+\.json"),
            "internvl": (r"ai2diagram/test_vlmevalkit\.jsonl",),
            "parquet": (hub("ai2d", "data", "test"),),
            "tsv": (r"AI2D_TEST\.tsv",),
        },
        "test_no_mask": {
            "official": (r"ai2d/ai2d_test_ids\.csv", r"ai2d/questions/[^/]+\.json"),
            "parquet": (hub("ai2d-no-mask", "data", "test"),),
            "tsv": (r"AI2D_TEST_NO_MASK\.tsv",),
        },
    }

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the questions of the test set's pictures.

        Raises:
            UserError: If masked pictures are wanted, which are no part of the authors' download, and are not there.
        """
        ids, *questions = source.files
        wanted = set(ids.read_text(encoding="utf-8").split())
        folder = "images" if split == "test_no_mask" else "abc_images"
        if not (ids.parent / folder).is_dir():
            raise UserError(
                f"{ids.parent} has no folder {folder}; masked pictures (abc_images) are fetched apart from AI2D.\n"
                f"Add it, read another layout (--layout parquet) or the split ai2d/test_no_mask. {self.fetch}"
            )
        for file in questions:
            name = file.name.removesuffix(".json")
            if name.rpartition(".")[0] in wanted:
                picture = picture_file(ids.parent / folder / name)
                for text, row in json_file(file)["questions"].items():
                    yield row_of(picture, text, row["answerTexts"], int(row["correctAnswer"]))

    def internvl(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of InternVL's file, in whose questions the options are.

        A question whose options are not found in it is asked as it is.
        """
        (file,) = source.files
        for row in json_lines(file):
            question, choices = without_options(row["question"])
            picture = picture_file(file.parents[2] / row["image"])
            yield Row("", (picture,), question, (row["answer"],), choices)

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files, whose answer is a number as text."""
        for row, image in pictured_rows(source.files, "image"):
            yield row_of(image, row["question"], row["options"], int(row["answer"]))

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file."""
        (file,) = source.files
        for row, (image,) in tsv_rows(file):
            yield Row("", (image,), row["question"], (row["answer"],), options_of(row))

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the question with its options and the instruction to give the letter."""
        if not row.choices:
            return row.question
        return with_options(row.question, row.choices, chinese=protocol == "vlmevalkit")

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return whether the answer is the letter and nothing else (InternVL2), or names it (definition)."""
        (letter,) = row.references
        return {
            "internvl2": option_letter(answer, [letter]),
            "definition": float(find_letter(answer, row.choices) == letter) if row.choices else None,
        }


def row_of(picture: Picture, question: str, options: Sequence[Any], answer: int) -> Row:
    """Return a row whose answer is the number of an option."""
    choices = lettered(options)
    return Row("", (picture,), question, ([*choices][answer],), choices)


def options_of(row: dict[str, str]) -> dict[str, str]:
    """Return the options of a TSV's row; an empty cell is none.

    Raises:
        UserError: If there are none.
    """
    choices = {name: text for name, text in row.items() if len(name) == 1 and name.isupper() and text}
    if not choices:
        raise UserError(f"The row {row.get('index')} has no options.\nFetch the file again.")
    return dict(sorted(choices.items()))
