"""The pages that looks are drawn on if none is given: a text page, a table, and a slide in proportional type."""

import numpy as np
from PIL import Image

from shards.render.page import Page
from shards.render.printed import PrintedPage
from shards.render.questions import ask_lookup
from shards.render.sources import Split, Table
from shards.render.table import draw_table, some_rows
from shards.render.text import text_page

COLUMNS, ROWS = 16, 8  # of characters: two by two tiles of the tiny models, and a thumbnail
SLIDE_ROWS = 4
SPLIT: Split = "test"


def drawn_pages(seed: int) -> list[tuple[str, Image.Image, str]]:
    """Return the pages with a name and a question each."""
    rng = np.random.default_rng(seed)
    text = text_page(SPLIT, COLUMNS, ROWS, rng)
    assert text.image is not None
    table = some_rows(SPLIT, ROWS - 2, 2, rng)
    page = Page(COLUMNS, ROWS, rng)
    draw_table(page, table)
    asked = ask_lookup(table, rng)
    record = some_rows(SPLIT, 1, 3, rng)
    return [
        ("text", text.image, text.question),
        ("table", page.image(), asked.question),
        ("slide", slide(record, rng), f"{record.columns[1]}?"),
    ]


def slide(record: Table, rng: np.random.Generator) -> Image.Image:
    """Draw a slide: a name as its title, a rule, and a line for each figure."""
    page = PrintedPage(COLUMNS, SLIDE_ROWS, rng)
    name, *figures = record.rows[0]
    page.write(name, (COLUMNS - len(name)) / 2, 0)
    page.rule(0)
    for row, (title, figure) in enumerate(zip(record.columns[1:], figures, strict=True), SLIDE_ROWS - len(figures)):
        page.write(f"{title}:", 0, row)
        page.write(figure, 6, row)
    return page.image()
