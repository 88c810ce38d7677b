"""What benchmarks share whose test answers a server keeps: rows of the Hub and of VLMEvalKit, ids, unknown answers."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from fcot.evaluation.benchmarks.benchmark import Source
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import literal, tsv_rows
from fcot.evaluation.rows import Row


class ServedVQA:
    """The two layouts that are alike.

    Attributes:
        hub_id: Name of the server's ids in the Hub's files.
    """

    title: ClassVar[str]
    hub_id: ClassVar[str]

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files."""
        for row, image in pictured_rows(source.files, "image"):
            yield row_of(row[self.hub_id], image, row["question"], known(row["answers"], split))

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file, which has no ids of the server."""
        (file, *_) = source.files
        for number, (row, (image,)) in enumerate(tsv_rows(file)):
            yield row_of(None, image, row["question"], answers_of(literal(row["answer"], file, number)))

    def notes(self, rows: Sequence[Row], source: Source) -> list[str]:
        """Return a warning where VLMEvalKit re-saved the pictures."""
        return resaved(source, self.title)


def known(answers: Any, split: str) -> Any:
    """Return the answers of a split, none of "test": the server keeps them, and some files have blanks there."""
    return None if split == "test" else answers


def row_of(question_id: int | str | None, image: Any, question: str, answers: Any) -> Row:
    """Return a row; answers are a list, a text or none."""
    fields = {} if question_id is None else {"question_id": int(question_id)}
    return Row("", (image,), question, answers_of(answers), fields=fields)


def answers_of(answers: Any) -> tuple[str, ...]:
    """Return answers that are a list, a text or none as texts."""
    if answers is None:
        return ()
    return (answers,) if isinstance(answers, str) else tuple(str(each) for each in answers)


def resaved(source: Source, title: str) -> list[str]:
    """Return a warning if pictures are those that VLMEvalKit unpacks from a large TSV, re-saved as JPEG."""
    (file, *_) = source.files  # where the TSV is there too, it comes first and is read
    if not file.name.endswith("_local.tsv"):
        return []
    return [f"{title}: the pictures of {file} were re-saved by VLMEvalKit as JPEG of quality 75, unlike the originals"]
