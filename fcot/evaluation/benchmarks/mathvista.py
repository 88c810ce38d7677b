"""MathVista (Lu et al., arXiv 2310.02255)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from fcot.evaluation.benchmarks.benchmark import Benchmark, Source
from fcot.evaluation.benchmarks.options import lettered
from fcot.evaluation.layouts.find import hub
from fcot.evaluation.layouts.json_rows import json_file, picture_file
from fcot.evaluation.layouts.parquet import pictured_rows
from fcot.evaluation.layouts.tsv import listed, tsv_rows
from fcot.evaluation.rows import Answer, Picture, Row
from fcot.evaluation.scoring.mathvista import extract, prefetched, rule_score

OWN = ("pid", "question_type", "answer_type", "choices", "unit", "precision", "answer", "metadata")


class Mathvista(Benchmark):
    """Mathematics in pictures. Published scores had a language model extract the answers."""

    title = "MathVista"
    splits: ClassVar[Mapping[str, int]] = {"testmini": 1000, "test": 5141}
    max_tiles = 6
    max_new_tokens = 1024
    licence = "CC BY-SA 4.0, for testing only"
    fetch = "Fetch it: hf download AI4Math/MathVista --repo-type dataset --local-dir ROOT/MathVista"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "testmini": {
            "official": (r"testmini\.json", r"query\.json"),
            "parquet": (hub("MathVista", "data", "testmini"),),
            "tsv": (r"MathVista_MINI\.tsv",),
        },
        "test": {
            "official": (r"test\.json", r"query\.json"),
            "parquet": (hub("MathVista", "data", "test"),),
        },
    }

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the authors' files: problems, and the queries that are asked."""
        problems_file, queries_file = source.files
        queries = json_file(queries_file)
        for pid, row in json_file(problems_file).items():
            base = next(
                (each for each in problems_file.parents if (each / row["image"]).is_file()), problems_file.parent
            )
            yield row_of({"pid": pid, **row}, queries[pid], picture_file(base / row["image"]))

    def parquet(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the Hub's files."""
        for row, image in pictured_rows(source.files, "decoded_image"):
            yield row_of(row, row["query"], image)

    def tsv(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of VLMEvalKit's file, whose questions are the queries."""
        (file,) = source.files
        for number, (cells, (image,)) in enumerate(tsv_rows(file)):
            choices = listed(cells["choices"], file, number) if cells["choices"] not in ("", "[]") else None
            row = {
                "pid": cells["index"],
                "question_type": cells["question_type"],
                "answer_type": cells["answer_type"],
                "choices": choices,
                "precision": float(cells["precision"]) if cells.get("precision") else None,
                "answer": cells["answer"],
            }
            yield row_of(row, cells["question"], image)

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the query as it is, without a chain of thought.

        Raises:
            UserError: For lmms-eval, which builds queries of its own.
        """
        self.refuse(protocol, "lmms_eval")
        return row.question

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return whether the answer is right where rules can decide; None needs a judge. Silence is wrong."""
        if not row.references:
            return {"internvl2": None, "definition": None}
        (gold,), choices = row.references, row.choices
        found, right = prefetched(answer, row.fields, list(choices.values()), gold, year=2024)
        by_rule = 0.0 if not answer.strip() else float(right) if found is not None else None
        return {"internvl2": by_rule, "definition": rule_score(answer, row.fields, choices, gold)}

    def submission(self, rows: Sequence[Row], answers: Mapping[str, Answer], split: str) -> dict[str, str]:
        """Return the file that the official judge reads: responses, and what rules extract from them."""
        content = {}
        for row in rows:
            said = answers[row.id].text
            extraction = extract(said, row.fields, list(row.choices.values()))
            entry = {**row.fields["own"], "query": row.question, "response": said}
            content[row.fields["own"]["pid"]] = entry | ({} if extraction is None else {"extraction": extraction})
        return {f"mathvista_{split}.json": json.dumps(content, ensure_ascii=False, indent=1) + "\n"}


def row_of(row: Mapping[str, Any], query: str, image: Picture) -> Row:
    """Return a row; precision is a float in some layouts, an integer in others, and a number of digits in all."""
    precision = row.get("precision")
    own = {name: row[name] for name in OWN if name in row and name != "precision"}
    fields: dict[str, Any] = {
        "question_type": row["question_type"],
        "answer_type": row["answer_type"],
        "precision": None if precision is None else int(precision),
    }
    answer = row.get("answer")
    references = () if answer in (None, "") else (str(answer),)
    choices = lettered(row.get("choices") or ())
    return Row(
        "", (image,), query, references, choices, fields={**fields, "own": {**own, "precision": fields["precision"]}}
    )
