"""OCRBench v2 (Fu et al., arXiv 2501.00321)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fcot.evaluation.benchmarks.benchmark import SHORT, Benchmark, Column, Source, lacking
from fcot.evaluation.layouts.json_rows import json_file, picture_file
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import literal, tsv_rows
from fcot.evaluation.ocrbench_v2 import Result, ability_of, language_of, score
from fcot.evaluation.ocrbench_v2.types import CHINESE, ENGLISH
from fcot.evaluation.rows import Answer, Picture, Row, Scored

ABSENT = {"eval": ("None", "without eval"), "bbox": ("without bbox",), "content": ("without content",)}
SPOTTING = "text spotting en"


class OcrbenchV2(Benchmark):
    """Thirty types of question in English and Chinese; each language is the mean of its abilities."""

    title = "OCRBench v2"
    splits: ClassVar[Mapping[str, int]] = {"test": 10000}
    max_tiles = 24
    max_new_tokens = 4096
    licence = "research only; sources keep their own terms"
    fetch = "Fetch it: hf download ling99/OCRBench_v2 --repo-type dataset --local-dir ROOT/OCRBench_v2"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "test": {
            "official": (r"OCRBench_v2\.json",),
            "parquet": (
                r"(?P<copy>(?:datasets--[^/]*--)?OCRBench_v2/(?:snapshots/[^/]+/)?)(?:.*/)?"
                r"(?:test|train)-\d+-of-\d+[^/]*\.parquet",
            ),
            "tsv": (r"OCRBench_v2\.tsv",),
        }
    }

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], Result] = {}

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the authors' file."""
        (file,) = source.files
        for row in json_file(file):
            yield row_of(row, picture_file(file.parent / row["image_path"]))

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files, whose answers are all texts and whose boxes have two columns."""
        for row, image in pictured_rows(source.files, "image"):
            yield from_hub(row, image)

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file, whose values are Python literals."""
        (file,) = source.files
        for number, (cells, (image,)) in enumerate(tsv_rows(file)):
            yield from_tsv(cells, file, number, image)

    def notes(self, rows: Sequence[Row], source: Source) -> list[str]:
        """Return a warning for each language that is there without some of its abilities."""
        found = []
        for language, title, abilities in (("en", "English", ENGLISH), ("ch", "Chinese", CHINESE)):
            its = [row for row in rows if language_of(row.fields["type"]) == language]
            found += lacking(f"{self.title} {title}", abilities, its) if its else []
        return found

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the question; VLMEvalKit's InternVL adds the instruction to be short to every one of them."""
        return f"{row.question}\n{SHORT}" if protocol == "vlmevalkit" else row.question

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return the score by the rule of the row's type."""
        found = self.result(row, answer).score
        return {"internvl2": found, "definition": found}

    def ignores(self, row: Row, answer: str) -> bool:
        """Return whether the type's rule leaves the row out of the mean."""
        return bool(self.result(row, answer).ignored)

    def result(self, row: Row, answer: str) -> Result:
        """Return what the rule of the row's type says; tables take long, so it is asked once."""
        if (row.id, answer) not in self.results:
            fields = row.fields
            rest = {name: fields[name] for name in ("eval", "bbox", "content")}
            self.results[row.id, answer] = score(fields["type"], row.question, answer, fields["answers"], **rest)
        return self.results[row.id, answer]

    def counted(self, scored: Sequence[Scored]) -> list[str]:
        """Return how many answers would have stopped the official script, and score 0 here."""
        crashed = [
            each for each in scored if not each.answer.failed and self.result(each.row, each.answer.text).crashed
        ]
        if not crashed:
            return []
        first = crashed[0]
        reason = self.result(first.row, first.answer.text).crashed
        return [f"{len(crashed)} answers would stop the official script and score 0, such as {first.row.id} ({reason})"]

    def columns(self, scored: Sequence[Scored], scoring: str) -> list[Column]:
        """Return the mean of its abilities for each language; an ability is the mean of its rows."""
        found = []
        for language, title in (("en", "English"), ("ch", "Chinese")):
            units: dict[str, dict[str, float]] = {}
            for each in scored:
                if not each.ignored and language_of(each.row.fields["type"]) == language:
                    units.setdefault(each.row.group, {})[each.row.id] = each.scores[scoring] or 0.0
            if units:
                found.append(Column(f"ocrbench_v2_{language}", f"OCRBench v2 {title}", units, parts=units))
        return found

    def submission(self, rows: Sequence[Row], answers: Mapping[str, Answer], split: str) -> dict[str, str]:
        """Return the file that the official script scores."""
        content = []
        for row in rows:
            fields = {name: row.fields[name] for name in ("type", "answers")}
            rest = {name: row.fields[name] for name in ("eval", "bbox", "content") if row.fields[name] is not None}
            content.append(
                {**fields, **rest, "question": row.question, "id": int(row.id), "predict": answers[row.id].text}
            )
        return {"ocrbench_v2.json": json.dumps(content, ensure_ascii=False, indent=1) + "\n"}


def row_of(row: Mapping[str, Any], image: Picture) -> Row:
    """Return a row; what is absent is None."""
    given = {name: row.get(name) for name in ("eval", "bbox", "content")}
    rest = {name: None if value in ABSENT[name] else value for name, value in given.items()}
    answers = row["answers"] if isinstance(row["answers"], list) else [row["answers"]]
    references = tuple(str(answer) for answer in answers)
    fields = {"type": row["type"], "answers": answers, **rest}
    return Row("", (image,), row["question"], references, group=ability_of(row["type"]), fields=fields)


def from_hub(row: Mapping[str, Any], image: Picture) -> Row:
    """Return a row of the Hub, where answers are texts, dictionaries JSON, and spotting's boxes have a column apart."""
    answers = list(row["answers"])
    if row["type"].startswith("chart parsing"):
        answers = [json.loads(answers[0])]
    elif row["type"] == "text grounding en":
        answers = [int(answer) for answer in answers]
    bbox = row.get("bbox_list") if row["type"] == SPOTTING else row.get("bbox")
    return row_of({**row, "answers": answers, "bbox": bbox or None, "content": row.get("content") or None}, image)


def from_tsv(cells: Mapping[str, str], file: Path, number: int, image: Picture) -> Row:
    """Return a row of VLMEvalKit's file."""
    row: dict[str, Any] = {"type": cells["category"], "question": cells["question"], "eval": cells.get("eval")}
    row["answers"] = literal(cells["answer"], file, number)
    for name in ("bbox", "content"):
        text = cells.get(name) or ABSENT[name][0]
        row[name] = None if text in ABSENT[name] else literal(text, file, number)
    return row_of(row, image)
