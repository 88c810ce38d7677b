"""Questions about pages, for post-training: look-up, comparison, sum or difference, form fields.

Answers about tables and charts are chains of thought: the page is read out first, then the rows that the answer rests
on, then the calculation is written, then the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from shards.render.chart import chart_table, draw_chart
from shards.render.page import Page
from shards.render.sample import Sample
from shards.render.sources import Split, Table
from shards.render.table import draw_table, some_rows, table_size

ANSWER = "Answer: "  # what follows it in a chain of thought is the conclusion that is scored


def _page_of_figures(split: Split, rng: np.random.Generator, paper: type[Page]) -> tuple[Table, Image.Image]:
    """Draw a table or a chart to ask about, on a kind of page."""
    if rng.random() < 0.5:
        table, columns, rows = chart_table(split, rng)
        return table, draw_chart(table, columns, rows, rng, paper)
    columns, rows, body, fields = table_size(rng)
    table = some_rows(split, body, fields, rng)
    page = paper(columns, rows, rng)
    draw_table(page, table)
    return table, page.image()


@dataclass(frozen=True)
class Asked:
    """A question about a table and what answers it.

    Attributes:
        question: The question.
        rows: The rows that the answer rests on.
        steps: The calculation, a line each.
        answer: The conclusion.
    """

    question: str
    rows: Sequence[tuple[str, ...]]
    steps: Sequence[str]
    answer: str

    def thought(self, table: Table | None) -> str:
        """Return a chain of thought: a table read out whole if one is given, the rows, the calculation, the answer."""
        rows = [f"{row[0]}: {row[1]}" for row in (*(table.rows if table else ()), *self.rows)]
        return "\n".join([*rows, *self.steps, f"{ANSWER}{self.answer}"])


def ask_lookup(table: Table, rng: np.random.Generator) -> Asked:
    """Ask for one row's figure."""
    row = table.rows[int(rng.integers(len(table.rows)))]
    return Asked(f"{table.columns[1]} of {row[0]}?", [row], [], row[1])


def ask_comparison(table: Table, rng: np.random.Generator) -> Asked:
    """Ask which of two rows has the larger or the smaller figure; if they are equal, the one named first is right."""
    first, second = (table.rows[int(row)] for row in rng.choice(len(table.rows), size=2, replace=False))
    larger = rng.random() < 0.5
    found = (max if larger else min)((first, second), key=lambda row: int(row[1]))
    question = f"{'Larger' if larger else 'Smaller'}: {first[0]} or {second[0]}?"
    return Asked(question, [first, second], in_order(first, second), found[0])


def in_order(first: tuple[str, ...], second: tuple[str, ...]) -> list[str]:
    """Compare two rows' figures digit by digit from the units, then write the larger one's name in front.

    Ulm 18 and Bonn 15 are "8,5>", "1,1=", "Ulm>Bonn"; of equal ones the first stands in front.
    """
    a, b = int(first[1]), int(second[1])
    digits = [(a // 10**place % 10, b // 10**place % 10) for place in range(max(len(str(a)), len(str(b))))]
    names = (first[0], second[0]) if a >= b else (second[0], first[0])
    return [*(f"{x},{y}{sign(x, y)}" for x, y in digits), ("=" if a == b else ">").join(names)]


def sign(a: int, b: int) -> str:
    """Return >, < or =."""
    return ">" if a > b else "<" if a < b else "="


def ask_arithmetic(table: Table, rng: np.random.Generator) -> Asked:
    """Ask for a sum or a difference, of the two rows with the shortest figures out of three."""
    drawn = [table.rows[int(row)] for row in rng.choice(len(table.rows), size=min(3, len(table.rows)), replace=False)]
    first, second = sorted(sorted(drawn, key=lambda row: len(row[1]))[:2], key=lambda row: -int(row[1]))
    a, b = int(first[1]), int(second[1])
    if rng.random() < 0.5:
        question, sign, result = f"Sum of {first[0]} and {second[0]}?", "+", a + b
    else:
        question, sign, result = f"{first[0]} minus {second[0]}?", "-", a - b
    return Asked(question, [first, second], [*in_columns(a, b, sign), f"{a}{sign}{b}={result}"], str(result))


def in_columns(a: int, b: int, sign: str) -> list[str]:
    """Write a sum or a difference (of a number no larger) out digit by digit from the units, carries included.

    47+35 is "7+5=12", "4+3+1=8"; 52-39 is "12-9=3", "5-1-3=1".
    """
    lines, carry = [], 0
    for place in range(max(len(str(a)), len(str(b)))):
        x, y = a // 10**place % 10, b // 10**place % 10
        if sign == "+":
            total = x + y + carry
            lines.append(f"{x}+{y}{'+1' if carry else ''}={total}")
            carry = total // 10
        else:
            borrow = x - carry < y
            lines.append(f"{x + 10 * borrow}{'-1' if carry else ''}-{y}={x + 10 * borrow - carry - y}")
            carry = int(borrow)
    return lines


KINDS = {"lookup": ask_lookup, "compare": ask_comparison, "arithmetic": ask_arithmetic}


def question(task: str, split: Split, rng: np.random.Generator) -> Sample:
    """Draw a page of figures and ask one question of a kind."""
    table, image = _page_of_figures(split, rng, Page)
    asked = KINDS[task](table, rng)
    return Sample(image, asked.question, asked.thought(table), task=task, source=table.name)


def dialogue(split: Split, rng: np.random.Generator, paper: type[Page] = Page) -> Sample:
    """Draw a page of figures and ask eight questions in one conversation; only the first answer reads the page out."""
    table, image = _page_of_figures(split, rng, paper)
    kinds = rng.choice(len(KINDS), size=8, p=(0.2, 0.4, 0.4))
    asked = [list(KINDS.values())[int(kind)](table, rng) for kind in kinds]
    turns = [(one.question, one.thought(None if number else table)) for number, one in enumerate(asked)]
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
