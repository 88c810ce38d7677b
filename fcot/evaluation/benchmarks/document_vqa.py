"""What DocVQA and InfographicVQA share: the competition's files, ANLS, its server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from fcot.evaluation.benchmarks.benchmark import SHORT, Source
from fcot.evaluation.benchmarks.served_vqa import ServedVQA, known, row_of
from fcot.evaluation.layouts.json_rows import json_file, json_lines, picture_file
from fcot.evaluation.rows import Answer, Row
from fcot.metrics.anls import anls


class DocumentVQA(ServedVQA):
    """Layouts, prompt and score of a benchmark of the Robust Reading Competition.

    Attributes:
        folders: Folders of pictures beside the official file's own or in it.
        image_key: Name of the picture's file in the official rows.
    """

    folders: ClassVar[Sequence[str]]
    image_key: ClassVar[str]
    hub_id = "questionId"
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
