"""The tiny teacher reads lines cut out of PDF files of a Debian machine: text that was set, not drawn by a recipe."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest
from PIL import Image

from fcot.training.sft import SFT
from shards.feed.datamodule import Shards
from shards.format.writer import write_set
from shards.render.page import ADVANCE, LINE
from shards.render.printed import MARGIN
from shards.render.sample import Sample
from shards.render.text import QUESTION

TEACHER = Path(__file__).parents[2] / "fcot" / "tiny" / "teacher"
MANUALS = (  # of the packages libtasn1-doc and shared-mime-info
    Path("/usr/share/doc/libtasn1-doc/libtasn1.pdf"),
    Path("/usr/share/doc/shared-mime-info/shared-mime-info-spec.pdf"),
)
COLUMNS, ROWS = 24, 4  # three tiles across and one down
EM = 20  # pixels: the middle of the sizes that the teacher has learned
PAGES = 60


pytestmark = pytest.mark.skipif(not all(map(Path.is_file, MANUALS)), reason="these manuals are not installed")


def pieces(path: Path) -> Iterator[tuple[Image.Image, str]]:
    """Yield what stands on a page between two gaps of words, as far as a line of the drawn page takes it."""
    pdfium = pytest.importorskip("pypdfium2")
    for page in pdfium.PdfDocument(path):
        text, (_, height) = page.get_textpage(), page.get_size()
        for number in range(text.count_rects()):
            left, bottom, right, top = text.get_rect(number)
            words = text.get_text_bounded(left, bottom, right, top).strip()
            if not (words.isascii() and words.isprintable() and 8 <= len(words) and 6 <= top - bottom <= 11):
                continue
            scale = EM / 10  # these manuals are set in 10 points or nearly
            if (right - left) * scale > COLUMNS * ADVANCE - 2 * MARGIN:
                continue
            drawn = page.render(scale=scale, grayscale=True).to_pil()
            box = (left * scale - 1, (height - top) * scale - 2, right * scale + 1, (height - bottom) * scale + 2)
            yield drawn.crop(tuple(map(round, box))), words


def page_of(lines: list[tuple[Image.Image, str]], source: str) -> Sample:
    """Return a page of such lines."""
    page = Image.new("L", (COLUMNS * ADVANCE, ROWS * LINE), 255)
    for row, (image, _) in enumerate(lines):
        page.paste(image, (MARGIN, row * LINE + (LINE - image.height) // 2))
    return Sample(page.convert("RGB"), QUESTION, "\n".join(text for _, text in lines), task="pdf", source=source)


@pytest.mark.slow
def test_it_reads_lines_of_pdf_files(tmp_path):
    pages = []
    for path in MANUALS:
        lines = list(pieces(path))
        pages += [page_of(lines[start : start + ROWS], path.name) for start in range(0, len(lines) - ROWS + 1, ROWS)]
    chosen = pages[:: len(pages) // PAGES][:PAGES]
    write_set(tmp_path / "test", chosen.__getitem__, len(chosen))
    module = SFT(TEACHER, max_new_tokens=160)
    module.configure_model()
    loader = Shards(tmp_path, num_workers=0).loader("test", with_prompts=True, layout=module.layout)
    scores = module.evaluate(loader).by_task("anls")["pdf"]
    print(f"{len(scores)} pages of four lines of PDF files: ANLS {fmean(scores):.3f}")
    assert len(scores) == PAGES
    assert fmean(scores) > 0.5
