"""Miniature sets of the ten benchmarks: drawn pages and invented questions, in the layouts of the real ones."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from shards.render.recipes import Draw

ROWS = {
    "docvqa": 24, "infovqa": 20, "chartqa": 20, "textvqa": 20, "ocrbench": 20, "ocrbench_v2": 24, "ai2d": 20,
    "mathvista": 20, "scienceqa": 20, "mme": 40,
}  # fmt: skip
MME = ("existence", "OCR", "code_reasoning", "text_translation")


def page(recipe: str, number: int) -> tuple[bytes, str, str]:
    """A drawn page as PNG, a question on it and the answer."""
    sample = Draw(recipe, "test", 7, 1000)(500 + number)
    buffer = io.BytesIO()
    sample.image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), sample.question.replace("<image>", "").strip(), sample.answer


def text(file: Path, content: str) -> None:
    """Write a file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")


def save(file: Path, data: bytes) -> None:
    """Write a picture and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def hub(folder: Path, file: str, rows: list[dict], image: str = "image") -> None:
    """Write rows as the Hub has them, pictures as a struct."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.Table.from_pylist([{name: value for name, value in row.items() if name != image} for row in rows])
    column = pa.array([{"bytes": row[image], "path": None} for row in rows], kind)
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.append_column(image, column), folder / file, row_group_size=8)


def tsv(file: Path, rows: list[dict]) -> None:
    """Write rows as VLMEvalKit has them."""
    head = list(rows[0])
    lines = ["\t".join(head), *("\t".join(str(row[name]).replace("\n", " ") for name in head) for row in rows)]
    text(file, "\n".join(lines) + "\n")


def draw(root: Path) -> Path:
    """Draw all ten sets below a folder."""
    rng = np.random.default_rng(0)
    docvqa(root / "docvqa")
    infovqa(root / "DocVQA")
    chartqa(root / "ChartQA Dataset")
    textvqa(root / "internvl_chat/data/textvqa")
    ocrbench(root / "tsv/OCRBench.tsv")
    ocrbench_v2(root / "v2")
    ai2d(root / "ai2d")
    mathvista(root / "MathVista")
    scienceqa(root / "tsv/ScienceQA_TEST.tsv")
    mme(root / "MME_Benchmark_release_version/MME_Benchmark", rng)
    return root


def docvqa(root: Path) -> None:
    """Official: eight pages with three questions each."""
    rows = []
    for number in range(ROWS["docvqa"]):
        data, question, answer = page("questions", number // 3)
        save(root / f"spdocvqa_images/p{number // 3}.png", data)
        asked = (question, "What is the first word?", "Which number is the largest?")[number % 3]
        rows.append(
            {
                "questionId": 900 + number,
                "question": asked,
                "image": f"documents/p{number // 3}.png",
                "answers": [answer],
            }
        )
    content = {"dataset_name": "docvqa", "dataset_split": "val", "dataset_version": "1.0", "data": rows}
    text(root / "spdocvqa_qas/val_v1.0_withQT.json", json.dumps(content))


def infovqa(root: Path) -> None:
    """The Hub's."""
    rows = []
    for number in range(ROWS["infovqa"]):
        data, question, answer = page("questions", 20 + number)
        rows.append({"questionId": str(800 + number), "question": question, "answers": [answer], "image": data})
    hub(root / "InfographicVQA", "validation-00000-of-00001.parquet", rows)


def chartqa(root: Path) -> None:
    """Official: two files, one folder of pictures."""
    for half in ("human", "augmented"):
        rows = []
        for number in range(ROWS["chartqa"] // 2):
            name = f"{half}{number}.png"
            data, question, answer = page("questions", 40 + number + 10 * (half == "human"))
            save(root / "test/png" / name, data)
            rows.append({"imgname": name, "query": question, "label": answer})
        text(root / f"test/test_{half}.json", json.dumps(rows))


def textvqa(root: Path) -> None:
    """InternVL's: rows in one file, ten answers each in another."""
    rows, annotations = [], []
    for number in range(ROWS["textvqa"]):
        data, question, answer = page("questions", 60 + number // 2)
        save(root / f"train_images/{number // 2}.png", data)
        image = f"data/textvqa/train_images/{number // 2}.png"
        rows.append({"image": image, "question": question, "question_id": number, "answer": answer})
        answers = [{"answer": answer if each < 8 else "other", "answer_id": each} for each in range(10)]
        annotations.append({"question_id": number, "answers": answers})
    text(root / "textvqa_val.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    text(root / "textvqa_val_annotations.json", json.dumps({"annotations": annotations}))


def ocrbench(file: Path) -> None:
    """VLMEvalKit's, with a picture named by its row."""
    kinds = ("Regular Text Recognition", "Scene Text-centric VQA", "Doc-oriented VQA", "Key Information Extraction",
             "Handwritten Mathematical Expression Recognition")  # fmt: skip
    rows = []
    for number in range(ROWS["ocrbench"]):
        data, question, answer = page("questions", 80 + number // 2)
        image = base64.b64encode(data).decode() if number % 2 == 0 else str(number - 1)
        rows.append(
            {"index": number, "image": image, "question": question, "answer": [answer], "category": kinds[number % 5]}
        )
    tsv(file, rows)


def ocrbench_v2(root: Path) -> None:
    """Official: types of both languages."""
    kinds = ("text recognition en", "full-page OCR en", "table parsing en", "cognition VQA cn", "full-page OCR cn",
             "document parsing en")  # fmt: skip
    rows = []
    for number in range(ROWS["ocrbench_v2"]):
        data, question, answer = page("reading", number // 2)
        save(root / f"EN_part/{number // 2}.png", data)
        kind = kinds[number % 6]
        asked = f"{question} Answer in markdown." if kind.startswith("table") else question
        row = {"type": kind, "id": number, "image_path": f"EN_part/{number // 2}.png", "question": asked}
        rows.append({**row, "dataset_name": "drawn", "answers": [answer]})
    text(root / "OCRBench_v2.json", json.dumps(rows))


def ai2d(root: Path) -> None:
    """The Hub's: the answer is a number as text."""
    rows = []
    for number in range(ROWS["ai2d"]):
        data, question, answer = page("questions", 100 + number)
        options = [answer, "none of them", "A", "7"]
        rows.append({"question": question, "options": options, "answer": "0", "image": data})
    hub(root / "data", "test-00000-of-00001.parquet", rows)


def mathvista(root: Path) -> None:
    """Official: problems, and queries in another file."""
    problems, queries = {}, {}
    for number in range(1, ROWS["mathvista"] + 1):
        data, question, answer = page("questions", 120 + number)
        save(root / f"images/{number}.png", data)
        choice = number % 2 == 0
        problems[str(number)] = {
            "pid": str(number), "question": question, "image": f"images/{number}.png",
            "choices": [answer, "none"] if choice else None, "unit": None, "precision": None,
            "answer": answer if choice else str(number),
            "question_type": "multi_choice" if choice else "free_form", "answer_type": "text" if choice else "integer",
            "metadata": {"split": "testmini"},
        }  # fmt: skip
        queries[str(number)] = f"Hint: be short.\nQuestion: {question}"
    text(root / "testmini.json", json.dumps(problems))
    text(root / "query.json", json.dumps(queries))


def scienceqa(file: Path) -> None:
    """VLMEvalKit's."""
    rows = []
    for number in range(ROWS["scienceqa"]):
        data, question, answer = page("questions", 150 + number // 2)
        hint = "The picture shows a table." if number % 2 else ""
        row = {"index": number, "image": base64.b64encode(data).decode(), "question": question, "hint": hint}
        rows.append({**row, "A": answer, "B": "None", "answer": "A"})
    tsv(file, rows)


def mme(root: Path, rng: np.random.Generator) -> None:
    """Official: a text file beside each picture."""
    for number in range(ROWS["mme"] // 2):
        folder = root / MME[number % 4]
        image = Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8))
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.jpg")
        asked = "Is this a page? Please answer yes or no.\tYes\nIs this a cat? Please answer yes or no.\tNo\n"
        text(folder / f"{number}.txt", asked)
