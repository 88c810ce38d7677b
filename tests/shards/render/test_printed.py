"""Printed pages hold what they are said to, in letters as wide as their font makes them."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from shards.render.page import ADVANCE, LINE, font
from shards.render.printed import MARGIN, OTHERWISE_ENCODED, STAND_IN, TYPEFACES, PrintedPage, printed_page
from shards.render.sources import split_of


def page(typeface, columns=24, rows=2):
    made = PrintedPage(columns, rows, np.random.default_rng(0))
    made.font, made.size = typeface, max(TYPEFACES[typeface])
    return made


def columns_of_ink(ink, row=0):
    """First and last column of pixels with ink in a row."""
    found = np.flatnonzero(ink[row * LINE : (row + 1) * LINE].any(0))
    return found[0], found[-1]


@pytest.mark.parametrize("typeface", TYPEFACES)
def test_letters_are_as_wide_as_their_font_makes_them(typeface):
    made = page(typeface)
    assert made.width("WWWW") > 2 * made.width("iiii")
    made.write("iiiiiiii", 0, 0)
    made.write("MMMMMMMM", 0, 1)
    assert columns_of_ink(made.ink, 0)[1] < 0.6 * columns_of_ink(made.ink, 1)[1]
    assert columns_of_ink(made.ink, 1)[1] <= 8 * ADVANCE  # what would be wider is squeezed into its cells


@pytest.mark.parametrize("typeface", STAND_IN)
def test_what_texs_fonts_draw_as_something_else_is_drawn_by_another_font(typeface):
    for character in OTHERWISE_ENCODED:
        made = page(typeface)
        made.write_words([character], 0, fill=False)
        right = Image.new("L", (24 * ADVANCE, LINE))
        face = font(STAND_IN[typeface], made.size)
        ImageDraw.Draw(right).text((MARGIN, LINE - 8), character, font=face, fill=255, anchor="ls")
        assert np.array_equal(made.ink[:LINE], np.asarray(right))


@pytest.mark.parametrize("typeface", TYPEFACES)
def test_figures_end_together(typeface):
    made = page(typeface)
    made.size = min(TYPEFACES[typeface])  # at which figures are narrower than their cells
    made.write("8", 11, 0)
    made.write("8888", 8, 1)
    short, long = (columns_of_ink(made.ink, row)[1] for row in (0, 1))
    assert abs(short - long) <= 1 and 11 * ADVANCE < long < 12 * ADVANCE


def test_a_filled_line_reaches_both_margins_and_keeps_its_words():
    made = page("DejaVuSans")
    for row, fill in enumerate((True, False)):
        made.write_words(["some", "words", "here"], row, fill=fill)
    (left, right), (_, ragged) = columns_of_ink(made.ink, 0), columns_of_ink(made.ink, 1)
    assert left <= MARGIN + 3 and right >= 24 * ADVANCE - MARGIN - 4
    assert ragged < 0.7 * right
    assert abs(int(made.ink[:LINE].sum()) - int(made.ink[LINE:].sum())) < 0.1 * made.ink[LINE:].sum()


def test_text_is_read_line_by_line_and_fits_the_page(monkeypatch):
    written = []
    original = PrintedPage.write_words

    def write_words(self, words, row, *, fill):
        assert self.width(" ".join(words)) <= self.columns * ADVANCE - 2 * MARGIN
        written.append((" ".join(words), fill))
        original(self, words, row, fill=fill)

    monkeypatch.setattr(PrintedPage, "write_words", write_words)
    filled = 0
    for index in range(12):
        written.clear()
        sample = printed_page("dev", 16, 4, np.random.default_rng([5, index]))
        assert sample.answer == "\n".join(line for line, _ in written)
        assert split_of(sample.source) == "dev" and sample.task == "print"
        filled += any(fill for _, fill in written)
        pixels = np.asarray(sample.image.convert("L"))
        assert pixels.shape == (4 * LINE, 16 * ADVANCE) and pixels.min() < 120
    assert 0 < filled < 12  # ragged and justified
