"""The tiny teacher reads lines cut out of PDF files of a Debian machine: text that was set, not drawn by a recipe."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import fmean, median

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
SCALE = 2.4  # 10 points, in which these manuals are set, as large as the teacher has learned such faces
BELOW = 8  # pixels of a line that lie below its letters' feet
ROOM = (COLUMNS * ADVANCE - 2 * MARGIN) / SCALE  # points across a line
PAGES = 60


pytestmark = pytest.mark.skipif(not all(map(Path.is_file, MANUALS)), reason="these manuals are not installed")


def pieces(path: Path) -> Iterator[tuple[Image.Image, str]]:
    """Yield what stands on a page between two gaps of words, as much as a line of a drawn page takes."""
    pdfium = pytest.importorskip("pypdfium2")
    for page in pdfium.PdfDocument(path):
        text, (_, height) = page.get_textpage(), page.get_size()
        drawn = page.render(scale=SCALE, grayscale=True).to_pil()
        letters = [(text.get_text_range(at, 1), text.get_charbox(at)) for at in range(text.count_chars())]
        for gap, line in groupby(letters, lambda letter: letter[0] in "\r\n"):
            words = [] if gap else [[*word] for space, word in groupby(line, lambda each: each[0] == " ") if not space]
            while words:
                fits = [end for end in range(1, len(words) + 1) if across(words[:end]) <= ROOM]
                taken, words = words[: max(fits, default=1)], words[max(fits, default=1) :]
                said = " ".join("".join(letter for letter, _ in word) for word in taken)
                if fits and len(said) >= 16 and said.isascii() and said.isprintable():
                    boxes = [box for word in taken for _, box in word]
                    left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
                    baseline = round((height - median(box[1] for box in boxes)) * SCALE)
                    down = baseline + BELOW
                    yield drawn.crop((round(left * SCALE) - 1, down - LINE, round(right * SCALE) + 1, down)), said


def across(words: list[list[tuple[str, tuple[float, ...]]]]) -> float:
    """Return how wide words of a line are, in points."""
    return words[-1][-1][1][2] - words[0][0][1][0]


def page_of(lines: list[tuple[Image.Image, str]], source: str) -> Sample:
    """Return a page of such lines."""
    page = Image.new("L", (COLUMNS * ADVANCE, ROWS * LINE), 255)
    for row, (image, _) in enumerate(lines):
        page.paste(image, (MARGIN, row * LINE))
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
    assert fmean(scores) > 0.35
