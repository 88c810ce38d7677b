"""Tables of real figures: read as markdown, or asked about."""

import numpy as np

from shards.render.page import Page
from shards.render.sample import Sample
from shards.render.sources import Split, Table, tables

QUESTION = "Table to markdown."


def some_rows(split: Split, rows: int, columns: int, rng: np.random.Generator) -> Table:
    """Return a random part of a random table: `rows` of its rows in random order, its first `columns`."""
    known = tables(split)
    table = known[int(rng.integers(len(known)))]
    chosen = rng.choice(len(table.rows), size=min(rows, len(table.rows)), replace=False)
    return Table(table.name, table.columns[:columns], tuple(table.rows[int(row)][:columns] for row in chosen))


def markdown(table: Table) -> str:
    """Return a table as compact markdown."""
    lines = ["|".join(table.columns), "|".join("-" for _ in table.columns)]
    lines += ["|".join(row) for row in table.rows]
    return "\n".join(f"|{line}|" for line in lines)


def draw_table(page: Page, table: Table) -> None:
    """Write a table on a page: names on the left, figures right-aligned, a rule under the head."""
    width = (page.columns - 11) // max(1, len(table.columns) - 1)
    for row, cells in enumerate((table.columns, *table.rows)):
        page.write(cells[0], 0, row)
        for column, cell in enumerate(cells[1:]):
            page.write(cell, 11 + column * width + width - len(cell), row)
    page.rule(0)


def table_size(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Choose a page for a table: its columns and rows of characters, the table's rows and columns."""
    columns, rows, fields = ((16, 4, 2), (16, 8, 2), (24, 8, 3))[int(rng.choice(3, p=(0.4, 0.4, 0.2)))]
    body = 3 if rows == 4 else int(rng.integers(4, 7))
    return columns, rows, body, fields


def table_page(split: Split, rng: np.random.Generator, paper: type[Page] = Page) -> Sample:
    """Draw a table to be read as markdown, on a kind of page."""
    columns, rows, body, fields = table_size(rng)
    table = some_rows(split, body, fields, rng)
    page = paper(columns, rows, rng)
    draw_table(page, table)
    return Sample(page.image(), QUESTION, markdown(table), task="table", source=table.name)
