"""TextVQA (Singh et al., arXiv 1904.08920)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from fcot.evaluation.benchmarks.benchmark import SHORT, Benchmark, Source
from fcot.evaluation.benchmarks.served_vqa import ServedVQA, known, row_of
from fcot.evaluation.layouts.find import hub
from fcot.evaluation.layouts.json_rows import json_file, json_lines, picture_file
from fcot.evaluation.rows import Answer, Row
from fcot.metrics.vqa_accuracy import vqa_accuracy


class Textvqa(ServedVQA, Benchmark):
    """Questions on text in photographs, with ten annotators' answers; no OCR tokens are given."""

    title = "TextVQA"
    hub_id = "question_id"
    splits: ClassVar[Mapping[str, int]] = {"val": 5000, "test": 5734}
    max_tiles = 6
    max_new_tokens = 10
    licence = "CC BY 4.0"
    fetch = "Fetch it: hf download lmms-lab/textvqa --repo-type dataset --local-dir ROOT/textvqa"
    places: ClassVar[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "val": {
            "official": (r"TextVQA_0\.5\.1_val\.json",),
            "internvl": (r"textvqa/textvqa_val\.jsonl", r"textvqa/textvqa_val_annotations\.json"),
            "parquet": (hub("textvqa", "data", "validation"),),
            "tsv": (r"TextVQA_VAL(?:_local)?\.tsv",),
        },
        "test": {
            "official": (r"TextVQA_0\.5\.1_test\.json",),
            "parquet": (hub("textvqa", "data", "test"),),
        },
    }

    def official(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of the authors' file."""
        (file,) = source.files
        folder = file.parent / ("test_images" if split == "test" else "train_images")
        for row in json_file(file)["data"]:
            image = picture_file(folder / f"{row['image_id']}.jpg")
            yield row_of(row["question_id"], image, row["question"], known(row.get("answers"), split))

    def internvl(self, source: Source, split: str) -> Iterator[Row]:
        """Yield the rows of InternVL's file, with the ten answers that its annotations have."""
        rows, annotations = source.files
        answers: dict[int, list[Any]] = {
            each["question_id"]: [answer["answer"] for answer in each["answers"]]
            for each in json_file(annotations)["annotations"]
        }
        for row in json_lines(rows):
            image = picture_file(rows.parents[2] / row["image"])
            yield row_of(row["question_id"], image, row["question"], answers[row["question_id"]])

    def prompt(self, row: Row, protocol: str = "internvl2") -> str:
        """Return the question with the instruction to be short."""
        if protocol == "lmms_eval":
            return f"{row.question.capitalize()}\n{SHORT}"
        return f"{row.question}{' ' if protocol == 'internvl2' else chr(10)}{SHORT}"

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        """Return VQA accuracy; published scores drop a full stop behind a digit."""
        if not row.references:
            return {"internvl2": None, "definition": None}
        references = list(row.references)
        return {
            "internvl2": vqa_accuracy(answer, references, drop_full_stops=True),
            "definition": vqa_accuracy(answer, references),
        }

    def submission(self, rows: Sequence[Row], answers: Mapping[str, Answer], split: str) -> dict[str, str]:
        """Return EvalAI's file, where the layout has its ids."""
        if not all("question_id" in row.fields for row in rows):
            return {}
        said = [{"question_id": row.fields["question_id"], "answer": answers[row.id].text} for row in rows]
        return {f"evalai_textvqa_{split}.json": json.dumps(said, ensure_ascii=False, indent=1) + "\n"}
