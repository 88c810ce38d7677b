"""What DocVQA and InfographicVQA share: the competition's files, ANLS, its server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fcot.evaluation.benchmarks.benchmark import SHORT, Source
from fcot.evaluation.layouts.json_rows import json_file, json_lines, picture_file
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import literal, tsv_rows
from fcot.evaluation.rows import Answer, Row
from fcot.metrics.anls import anls


class DocumentVQA:
    """Layouts, prompt and score of a benchmark of the Robust Reading Competition.

    Attributes:
        folders: Folders of pictures beside the official file's own or in it.
        image_key: Name of the picture's file in the official rows.
    """

    title: ClassVar[str]
    folders: ClassVar[Sequence[str]]
    image_key: ClassVar[str]
    max_new_tokens = 100
    licence = "terms of the Robust Reading Competition, after registration"

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the competition's file."""
        (file, *_) = source.files
        for row in json_file(file)["data"]:
            path = self.picture(file, str(row[self.image_key]))
            yield row_of(row["questionId"], picture_file(path), row["question"], known(row.get("answers"), split))

    def picture(self, file: Path, name: str) -> Path:
        """Return where a picture is: beside the questions' folder or below it."""
        bare = Path(name).name
        places = [
            file.parent / name,
            *(base / folder / bare for base in (file.parents[1], file.parent) for folder in self.folders),
        ]
        return next((place for place in places if place.is_file()), places[0])

    def internvl(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of InternVL's file, whose answers are those of the official one."""
        (file, *_) = source.files
        for row in json_lines(file):
            image = picture_file(file.parents[2] / row["image"])
            yield row_of(row["question_id"], image, row["question"], known(row.get("answer"), split))

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files."""
        for row, image in pictured_rows(source.files, "image"):
            yield row_of(row["questionId"], image, row["question"], known(row["answers"], split))

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file, which has no ids of the server."""
        (file, *_) = source.files
        for number, (row, (image,)) in enumerate(tsv_rows(file)):
            yield row_of(None, image, row["question"], answers_of(literal(row["answer"], file, number)))

    def notes(self, rows: Sequence[Row], source: Source) -> list[str]:
        """Return a warning where VLMEvalKit re-saved the pictures."""
        return resaved(source, self.title)

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the question with the instruction to be short."""
        return f"{row.question}{' ' if protocol == 'internvl2' else chr(10)}{SHORT}"

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return the ANLS, which everybody counts alike."""
        score = anls(answer, list(row.references)) if row.references else None
        return {"internvl2": score, "definition": score}

    def submission(self, rows: Sequence[Row], answers: Mapping[str, Answer], split: str) -> dict[str, str]:
        """Return the competition's file, where the layout has its ids."""
        if not all("question_id" in row.fields for row in rows):
            return {}
        said = [{"questionId": row.fields["question_id"], "answer": answers[row.id].text} for row in rows]
        return {f"rrc_{self.title.lower()}_{split}.json": json.dumps(said, ensure_ascii=False, indent=1) + "\n"}


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
