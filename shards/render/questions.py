"""Questions about pages, for post-training: look-up, comparison, arithmetic with its reasoning, form fields."""

import numpy as np

from shards.render.chart import chart_table, draw_chart
from shards.render.page import Page
from shards.render.sample import Sample
from shards.render.sources import Split, Table
from shards.render.table import draw_table, some_rows, table_size

ANSWER = "Answer: "  # what follows it in a chain of thought is the conclusion that is scored


def _page_of_figures(split: Split, rng: np.random.Generator) -> tuple[Table, Sample]:
    """Draw a table or a chart to ask about; question and answer still empty."""
    if rng.random() < 0.5:
        table, columns, rows = chart_table(split, rng)
        image = draw_chart(table, columns, rows, rng)
    else:
        columns, rows, body, fields = table_size(rng)
        table = some_rows(split, body, fields, rng)
        page = Page(columns, rows, rng)
        draw_table(page, table)
        image = page.image()
    return table, Sample(image, "", "", task="", source=table.name)


def lookup(split: Split, rng: np.random.Generator) -> Sample:
    """Ask for one row's figure."""
    table, drawn = _page_of_figures(split, rng)
    row = table.rows[int(rng.integers(len(table.rows)))]
    return Sample(drawn.image, f"{table.columns[1]} of {row[0]}?", row[1], task="lookup", source=drawn.source)


def compare(split: Split, rng: np.random.Generator) -> Sample:
    """Ask for the name with the largest or smallest figure; drawn again if two rows tie."""
    table, drawn = _page_of_figures(split, rng)
    order = sorted(table.rows, key=lambda row: int(row[1]))
    if order[0][1] == order[1][1] or order[-1][1] == order[-2][1]:
        return compare(split, rng)
    word, answer = (("Largest", order[-1]), ("Smallest", order[0]))[int(rng.integers(2))]
    question = f"{word} {table.columns[1]}?"
    return Sample(drawn.image, question, answer[0], task="compare", source=drawn.source)


def arithmetic(split: Split, rng: np.random.Generator) -> Sample:
    """Ask for the sum or difference of two rows' figures, the reasoning written out before the answer."""
    table, drawn = _page_of_figures(split, rng)
    first, second = (table.rows[int(row)] for row in rng.choice(len(table.rows), size=2, replace=False))
    a, b = int(first[1]), int(second[1])
    if rng.random() < 0.5:
        question, result, sign = f"Sum of {first[0]} and {second[0]}?", a + b, "+"
    else:
        question, result, sign = f"{first[0]} minus {second[0]}?", a - b, "-"
    answer = f"{a}{sign}{b}={result}\n{ANSWER}{result}"
    return Sample(drawn.image, question, answer, task="arithmetic", source=drawn.source)


def form(split: Split, rng: np.random.Generator) -> Sample:
    """Draw a small form filled with one record of a table and ask for one of its fields."""
    table = some_rows(split, 1, 3, rng)
    values = dict(zip(table.columns, table.rows[0], strict=True))
    code = table.name.split("/")[1]
    values["Code"] = code
    values["No"] = str(int(rng.integers(100, 10_000)))
    fields = [list(values)[int(i)] for i in rng.permutation(len(values))[:4]]
    page = Page(16, 4, rng)
    for row, field in enumerate(fields):
        page.write(f"{field}:", 0, row)
        page.write(values[field], 6, row)
    asked = fields[int(rng.integers(len(fields)))]
    return Sample(page.image(), f"{asked}?", values[asked], task="form", source=table.name)
