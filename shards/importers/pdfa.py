"""OCR corpora as they are published: pages with words and boxes in JSON beside a PDF (pdfa) or a TIFF (idl)."""

import io
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from fcot.errors import SampleError
from shards.feed.decode import image_size
from shards.importers.documents import Document, find_documents, pages_of, scan_of
from shards.importers.folder import QUESTION
from shards.importers.importer import ImportedSample, asked, imported
from shards.importers.page_tables import with_tables
from shards.importers.pdf import pdfium, rendered
from shards.importers.pictures import kind_of, tiff_page
from shards.importers.reading_order import Box, plain_text, reading_order
from shards.importers.registry import IMPORTERS

MAX_WORDS = 20_000  # of a page; a newspaper's has about 8,000


class PdfaImporter:
    """Imports every page of every document: what it looks like, and its words in reading order.

    Args:
        source: A tar file, or a folder of tar files or documents.
        question: What is asked of each page.
        task: Task of all samples.
        dpi: Pixels an inch of PDF pages.
        markdown: Write tables as Markdown tables.
    """

    def __init__(self, source: Path, question: str, task: str, dpi: int, markdown: bool) -> None:
        self.repeat_time: Mapping[str, float] = {}
        self.question, self.task, self.dpi, self.markdown = question, task, dpi, markdown
        self.documents = find_documents(source)
        self._ends = list(accumulate(map(_count, self.documents)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __call__(self, index: int) -> ImportedSample:
        """Return a page."""
        place = bisect_right(self._ends, index)
        document, number = self.documents[place], index - (self._ends[place - 1] if place else 0)
        named = f"{document.key}-{number + 1}"
        try:
            return self._page(document, number, named)
        except SampleError as error:
            error.id = named
            raise

    def _page(self, document: Document, number: int, named: str) -> ImportedSample:
        pages, scan = document.check()
        about = pages_of(pages)[number]
        name, content = f"page {number + 1} of {scan.name}", scan_of(scan)
        reencoded: list[str] = []
        if content.startswith(b"%PDF") or scan.name.lower().endswith(".pdf"):
            image = pdf_page(content, number, self.dpi, name)
        elif kind_of(content) == "TIFF":
            image, reencoded = tiff_page(name, content, number), ["TIFF"]
        elif number:
            raise SampleError("missing_page", f"{scan.name} is an image of one page, and its JSON has {number + 1}")
        else:
            image = content
        text = self._text(about, image_size(image, name), name)
        sample = imported(asked(self.question, text), [(name, image)], task=self.task, source=document.source, id=named)
        return ImportedSample(sample.record, sample.images, {**sample.notes, "reencoded": reencoded})

    def _text(self, about: Any, size: tuple[int, int], name: str) -> str:
        """Return the text of a page in reading order."""
        words = boxes_of(about, size, "words", name)
        if not words:
            raise SampleError("no_text", f"{name} holds no words")
        lines = reading_order(words, boxes_of(about, size, "lines", name))
        return with_tables(lines) if self.markdown else plain_text(lines)


def _count(document: Document) -> int:
    """Return the number of pages; a document that cannot be used counts as one, to be named as skipped."""
    try:
        pages, _ = document.check()
        return len(pages_of(pages))
    except SampleError:
        return 1


def boxes_of(about: Any, size: tuple[int, int], kind: str, name: str) -> list[Box]:
    """Return the words or lines of a page; those without text are left out.

    Args:
        about: A page of the JSON: `{"words": {"text", "bbox"}, "lines": …}`, or `text` and `bbox` of its words.
        size: Width and height of the page in pixels; boxes are left, top, width, height in fractions of them.
        kind: "words" or "lines".
        name: For messages.

    Raises:
        SampleError: If texts and boxes do not go together.
    """
    if not isinstance(about, dict):
        raise SampleError("bad_json", f"{name} is no object in the JSON")
    part = about.get(kind, about if kind == "words" else {})
    texts, places = (part.get(field) or [] for field in ("text", "bbox")) if isinstance(part, dict) else ([], None)
    if not isinstance(texts, list) or not isinstance(places, list) or len(texts) != len(places):
        raise SampleError("bad_json", f"{name} has {kind} without a box for each")
    if len(texts) > MAX_WORDS:
        raise SampleError("too_many_words", f"{name} has {len(texts)} {kind}, over {MAX_WORDS}")
    return [
        _box(str(text).strip(), place, size, name)
        for text, place in zip(texts, places, strict=True)
        if str(text).strip()
    ]


def _box(text: str, place: Any, size: tuple[int, int], name: str) -> Box:
    numbers = place if isinstance(place, Sequence) and not isinstance(place, str) else ()
    if len(numbers) != 4 or not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        raise SampleError("bad_json", f"{name} has the box {place!r}, not left, top, width and height")
    (left, top, width, height), (across, down) = map(float, numbers), size
    return Box(text, left * across, top * down, (left + width) * across, (top + height) * down)


def pdf_page(content: bytes, number: int, dpi: int, name: str) -> bytes:
    """Return a page of a PDF as PNG.

    Raises:
        SampleError: If it is not there, broken or too large.
    """
    error_of = pdfium().PdfiumError
    try:
        with pdfium().PdfDocument(content) as document:
            if number >= len(document):
                raise SampleError("missing_page", f"{name} is not there: the PDF has {len(document)}")
            image = rendered(document[number], dpi, name)
    except error_of as error:
        raise SampleError("bad_pdf", f"{name}: {error}") from error
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


@IMPORTERS.add
def pdfa(
    source: Path, *, question: str | None = None, task: str | None = None, dpi: int = 150, markdown: bool = False
) -> PdfaImporter:
    """Import the pages of pdfa or idl corpora: see `PdfaImporter`."""
    return PdfaImporter(source, question or QUESTION, task or "text", dpi, markdown)
