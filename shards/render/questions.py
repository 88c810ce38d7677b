"""Questions about pages, for post-training: look-up, comparison, arithmetic with its reasoning, form fields."""

import numpy as np
from PIL import Image

from shards.render.chart import chart_table, draw_chart
from shards.render.page import Page
from shards.render.sample import Sample
from shards.render.sources import Split, Table
from shards.render.table import draw_table, some_rows, table_size

ANSWER = "Answer: "  # what follows it in a chain of thought is the conclusion that is scored


Turn = tuple[str, str]


def _page_of_figures(split: Split, rng: np.random.Generator) -> tuple[Table, Image.Image]:
    """Draw a table or a chart to ask about."""
    if rng.random() < 0.5:
        table, columns, rows = chart_table(split, rng)
        return table, draw_chart(table, columns, rows, rng)
    columns, rows, body, fields = table_size(rng)
    table = some_rows(split, body, fields, rng)
    page = Page(columns, rows, rng)
    draw_table(page, table)
    return table, page.image()


def ask_lookup(table: Table, rng: np.random.Generator) -> Turn:
    """Ask for one row's figure."""
    row = table.rows[int(rng.integers(len(table.rows)))]
    return f"{table.columns[1]} of {row[0]}?", row[1]


def ask_comparison(table: Table, rng: np.random.Generator) -> Turn:
    """Ask for the name with the largest or smallest figure; of several, the first is right."""
    largest = rng.random() < 0.5
    answer = (max if largest else min)(table.rows, key=lambda row: int(row[1]))
    return f"{'Largest' if largest else 'Smallest'} {table.columns[1]}?", answer[0]


def ask_arithmetic(table: Table, rng: np.random.Generator) -> Turn:
    """Ask for the sum or difference of two rows' figures, the reasoning written out before the answer."""
    first, second = (table.rows[int(row)] for row in rng.choice(len(table.rows), size=2, replace=False))
    a, b = int(first[1]), int(second[1])
    if rng.random() < 0.5:
        question, result, sign = f"Sum of {first[0]} and {second[0]}?", a + b, "+"
    else:
        question, result, sign = f"{first[0]} minus {second[0]}?", a - b, "-"
    return question, f"{a}{sign}{b}={result}\n{ANSWER}{result}"


def lookup(split: Split, rng: np.random.Generator) -> Sample:
    """Draw a page of figures and ask for one of them."""
    table, image = _page_of_figures(split, rng)
    return Sample(image, *ask_lookup(table, rng), task="lookup", source=table.name)


def compare(split: Split, rng: np.random.Generator) -> Sample:
    """Draw a page of figures and ask for the row with the largest or smallest."""
    table, image = _page_of_figures(split, rng)
    return Sample(image, *ask_comparison(table, rng), task="compare", source=table.name)


def arithmetic(split: Split, rng: np.random.Generator) -> Sample:
    """Draw a page of figures and ask for the sum or difference of two."""
    table, image = _page_of_figures(split, rng)
    return Sample(image, *ask_arithmetic(table, rng), task="arithmetic", source=table.name)


def dialogue(split: Split, rng: np.random.Generator) -> Sample:
    """Draw a page of figures and ask several questions about it in one conversation."""
    table, image = _page_of_figures(split, rng)
    kinds = (ask_lookup, ask_comparison, ask_arithmetic)
    turns = [kinds[int(kind)](table, rng) for kind in rng.integers(len(kinds), size=int(rng.integers(4, 7)))]
    return Sample(image, *turns[-1], task="dialogue", source=table.name, earlier=tuple(turns[:-1]))


def form(split: Split, rng: np.random.Generator, fields_asked: int = 1) -> Sample:
    """Draw a small form filled with one record of a table and ask for one or more of its fields."""
    table = some_rows(split, 1, 3, rng)
    values = dict(zip(table.columns, table.rows[0], strict=True))
    values["Code"] = table.name.split("/")[1]
    values["No"] = str(int(rng.integers(100, 10_000)))
    fields = [list(values)[int(i)] for i in rng.permutation(len(values))[:4]]
    page = Page(16, 4, rng)
    for row, field in enumerate(fields):
        page.write(f"{field}:", 0, row)
        page.write(values[field], 6, row)
    asked = [fields[int(i)] for i in rng.permutation(len(fields))[:fields_asked]]
    turns = [(f"{field}?", values[field]) for field in asked]
    return Sample(page.image(), *turns[-1], task="form", source=table.name, earlier=tuple(turns[:-1]))


def long_form(split: Split, rng: np.random.Generator) -> Sample:
    """Draw a small form and ask for all of its fields in one conversation."""
    return form(split, rng, fields_asked=4)
