"""Pages of PDF files, rendered, with the text that they hold."""

import io
import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from PIL import Image

from fcot.errors import SampleError, UserError
from fcot.internvl.decode import MAX_PIXELS
from shards.importers.folder import QUESTION, found_in
from shards.importers.importer import ImportedSample, asked, imported
from shards.importers.pictures import MAX_PIXELS_IN_ALL
from shards.importers.registry import IMPORTERS

POINTS = 72  # per inch


def pdfium() -> Any:
    """Return the PDF library.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise UserError(
            "PDF files are rendered by the package 'pypdfium2', which is not installed.\n"
            'Install the import extra: pip install "fcot[import]"'
        ) from error
    return pypdfium2


class PdfImporter:
    """Imports every page of every PDF in a folder; a page without text is skipped and counted.

    Args:
        source: A folder, searched with its subfolders, or one file.
        question: What is asked of each page.
        task: Task of all samples.
        dpi: Pixels an inch.
    """

    def __init__(self, source: Path, question: str, task: str, dpi: int) -> None:
        self.repeat_time: Mapping[str, float] = {}
        self.source, self.question, self.task, self.dpi = source, question, task, dpi
        self.files = found_in(source, ".pdf") if source.is_dir() else [source]
        self._ends = list(accumulate(self._pages(path) for path in self.files))

    @staticmethod
    def _pages(path: Path) -> int:
        """Return the number of pages; a file that does not open counts as one, to be named as skipped."""
        try:
            with pdfium().PdfDocument(path) as document:
                return len(document)
        except pdfium().PdfiumError:
            return 1

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __call__(self, index: int) -> ImportedSample:
        """Return a page."""
        place = bisect_right(self._ends, index)
        path, number = self.files[place], index - (self._ends[place - 1] if place else 0)
        try:
            with pdfium().PdfDocument(path) as document:
                text, image = self._read(document[number], f"page {number + 1} of {path}")
        except pdfium().PdfiumError as error:
            raise SampleError("bad_pdf", f"page {number + 1} of {path}: {error}") from error
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=3)
        source = str(path.relative_to(self.source)) if self.source.is_dir() else path.name
        name = f"page {number + 1} of {path.name}"
        return imported(asked(self.question, text), [(name, buffer.getvalue())], task=self.task, source=source)

    def _read(self, page: Any, name: str) -> tuple[str, Image.Image]:
        """Return the text of a page, and what it looks like."""
        found = page.get_textpage().get_text_bounded().replace("\r\n", "\n")
        text = "".join(letter for letter in found if letter == "\n" or letter.isprintable()).strip()
        if not text:
            raise SampleError("no_text", f"{name} holds no text")
        return text, rendered(page, self.dpi, name)


def rendered(page: Any, dpi: int, name: str) -> Image.Image:
    """Return what a page looks like.

    Args:
        page: Of an open document.
        dpi: Pixels an inch.
        name: For messages.

    Raises:
        SampleError: If it is too large, or has images of too many pixels.
    """
    width, height = page.get_size()
    if width * height * (dpi / POINTS) ** 2 > MAX_PIXELS:
        raise SampleError("image_too_large", f"{name} is {width:.0f}x{height:.0f} points")
    pixels = sum(math.prod(each.get_px_size()) for each in page.get_objects(filter=[pdfium().raw.FPDF_PAGEOBJ_IMAGE]))
    if pixels > MAX_PIXELS_IN_ALL:
        raise SampleError("image_too_large", f"{name} has images of {pixels} pixels, over {MAX_PIXELS_IN_ALL}")
    image: Image.Image = page.render(scale=dpi / POINTS).to_pil().convert("RGB")
    return image


@IMPORTERS.add
def pdf(source: Path, *, question: str | None = None, task: str | None = None, dpi: int = 150) -> PdfImporter:
    """Import the pages of PDF files: see `PdfImporter`."""
    return PdfImporter(source, question or QUESTION, task or "text", dpi)
