"""A drawn benchmark: a few pages with several questions each."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

from fcot.evaluation.benchmarks import Benchmark, Source
from fcot.evaluation.rows import Picture, Row
from fcot.evaluation.run.sets import BenchmarkSet

QUESTIONS = ("What is on the page?", "Which number is the largest of all numbers here?", "Why?", "Who?")


def png(number: int, size: tuple[int, int]) -> bytes:
    """A page with a number on it."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((4, 4), f"page {number}", fill="black")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def made_set(sizes=((56, 56), (112, 112), (168, 56), (56, 224)), questions=QUESTIONS, broken=()) -> BenchmarkSet:
    """A set of pages of these sizes; of those in `broken` the picture is cut short."""

    class MadeUp(Benchmark):
        title, splits, licence, fetch = "Made up", {"test": len(sizes) * len(questions)}, "", ""
        max_tiles, max_new_tokens = 6, 8

        def find(self, root, split):
            return [Source("official", (Path(__file__),), root)]

        def rows(self, source, split):
            pages = [png(number, size) for number, size in enumerate(sizes)]
            pages = [page[: len(page) // 2] if number in broken else page for number, page in enumerate(pages)]
            return [
                Row(f"{number}-{at}", (Picture(f"page {number}", lambda page=page: page),), question, ("page",))
                for at, question in enumerate(questions)
                for number, page in enumerate(pages)
            ]

        def prompt(self, row, protocol="internvl2"):
            return row.question

        def score(self, row, answer):
            return dict.fromkeys(("internvl2", "definition"), float("page" in answer))

    kind = MadeUp()
    (source,) = kind.find(Path(), "test")
    return BenchmarkSet(kind, "test", source, kind.rows(source, "test"), True)
