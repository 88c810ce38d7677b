"""What a page is said to show is read back from what was written on it, cell by cell."""

import ast
import json
import re
from itertools import product

import numpy as np
import pytest

from shards.render.page import ADVANCE, LINE, Page
from shards.render.questions import in_columns, in_order
from shards.render.recipes import DRAWERS, RECIPES, SPLITS, Draw
from shards.render.sources import split_of, tables
from shards.render.text import wrapped

DRAWN = 12  # pages of each kind


@pytest.fixture
def written(monkeypatch):
    """Every (row, column, text) written on the page being drawn."""
    cells = []

    def write(self, text, column, row):
        assert 0 <= row < self.rows, "below the page"
        assert column + len(text) <= self.columns + 0.01, "beyond the page"
        cells.append((row, column, text))
        original(self, text, column, row)

    original = Page.write
    monkeypatch.setattr(Page, "write", write)
    return cells


def pages(task, written, count=DRAWN):
    """Samples of a task, each with the lines of text on its page, left to right."""
    for index in range(count):
        written.clear()
        sample = DRAWERS[task](SPLITS[index % 3], np.random.default_rng([7, index]))
        assert split_of(sample.source) == SPLITS[index % 3]
        yield sample, [[text for row, _, text in sorted(written) if row == line] for line in range(1 + max(written)[0])]


def figures(sample, lines):
    """Name and first figure of each row of a table or a chart, and that figure's title."""
    if lines[0][0] in ("City", "Land"):
        return {line[0]: int(line[1]) for line in lines[1:]}, lines[0][1]
    source = next(table for split in SPLITS for table in tables(split) if table.name == sample.source)
    return {name: int(figure) for name, figure in lines}, source.columns[1]


def right_answer(question, values, title, read_out=True):
    """What a reader of the figures answers to a question: page read out, rows used, reckoning, answer."""
    used, steps = [], []
    if match := re.fullmatch(rf"{title} of (.+)\?", question):
        used, result = [match[1]], values[match[1]]
    elif match := re.fullmatch(r"(Larger|Smaller): (.+) or (.+)\?", question):
        used = [match[2], match[3]]
        result = (max if match[1] == "Larger" else min)(used, key=values.get)  # of equals the first
        steps = in_order(*((name, str(values[name])) for name in used))
    elif match := re.fullmatch(r"Sum of (.+) and (.+)\?", question):
        used, result = [match[1], match[2]], values[match[1]] + values[match[2]]
        steps = [*in_columns(*map(values.get, used), "+"), f"{values[match[1]]}+{values[match[2]]}={result}"]
    else:
        match = re.fullmatch(r"(.+) minus (.+)\?", question)
        used, result = [match[1], match[2]], values[match[1]] - values[match[2]]
        steps = [*in_columns(*map(values.get, used), "-"), f"{values[match[1]]}-{values[match[2]]}={result}"]
        assert result >= 0
    assert len(set(used)) == len(used)
    return "\n".join(
        [*(f"{name}: {values[name]}" for name in (*(values if read_out else ()), *used)), *steps, f"Answer: {result}"]
    )


@pytest.mark.parametrize("task", sorted(set(DRAWERS) - {"typed", "drill"}))
def test_pages_are_whole_tiles_of_ink_and_no_turn_is_empty(task):
    for index in range(4):
        sample = DRAWERS[task](SPLITS[index % 3], np.random.default_rng([7, index]))
        assert split_of(sample.source) == SPLITS[index % 3]
        assert all(text.strip() for turn in (*sample.earlier, (sample.question, sample.answer)) for text in turn)
        assert sample.image.width % (8 * ADVANCE) == sample.image.height % (4 * LINE) == 0
        pixels = np.asarray(sample.image.convert("L"))
        assert pixels.min() < 120 and np.median(pixels) > 150


def test_text_is_what_stands_on_the_page(written):
    for sample, lines in pages("text", written):
        assert sample.answer == "\n".join(line for (line,) in lines)


def test_markdown_is_the_table_on_the_page(written):
    for sample, lines in pages("table", written):
        head, rule, *body = [row.strip("|").split("|") for row in sample.answer.split("\n")]
        assert set(rule) == {"-"} and len(rule) == len(head)
        assert [head, *body] == lines


def test_a_charts_dict_is_the_figures_on_the_page(written):
    for sample, lines in pages("chart", written):
        read = ast.literal_eval(sample.answer)
        assert {name: str(value) for name, value in read.items()} == dict(lines)
        assert list(read) == [name for name, _ in lines]


def test_bars_are_as_long_as_their_figures(written):
    for _, lines in pages("chart", written):
        ends = {text: column for _, column, text in written if text.isdecimal()}
        in_order = sorted((int(value) for _, value in lines), key=int)
        assert [ends[str(value)] for value in in_order] == sorted(ends[str(value)] for value in in_order)
        assert ends[str(in_order[-1])] > 12  # the longest bar has a length


@pytest.mark.parametrize("task", ["lookup", "compare", "arithmetic", "dialogue"])
def test_every_answer_follows_from_the_figures_on_the_page(task, written):
    asked = set()
    for sample, lines in pages(task, written, 20):
        values, title = figures(sample, lines)
        for turn, (question, answer) in enumerate((*sample.earlier, (sample.question, sample.answer))):
            assert answer == right_answer(question, values, title, read_out=turn == 0)
            asked.add(question)
    assert len(asked) > 1  # no task has one question only


@pytest.mark.parametrize(
    ("a", "b", "sign", "lines"),
    [
        (47, 35, "+", ["7+5=12", "4+3+1=8"]),
        (8, 4, "+", ["8+4=12"]),
        (99, 901, "+", ["9+1=10", "9+0+1=10", "0+9+1=10"]),
        (52, 39, "-", ["12-9=3", "5-1-3=1"]),
        (100, 1, "-", ["10-1=9", "10-1-0=9", "1-1-0=0"]),
        (33, 33, "-", ["3-3=0", "3-3=0"]),
    ],
)
def test_figures_are_reckoned_digit_by_digit(a, b, sign, lines):
    assert in_columns(a, b, sign) == lines


def test_every_line_of_a_reckoning_is_right_and_its_last_digits_are_the_result():
    for a, b in ((large, small) for large in range(0, 1200, 37) for small in range(0, large + 1, 29)):
        for sign, result in (("+", a + b), ("-", a - b)):
            lines = [line.split("=") for line in in_columns(a, b, sign)]
            assert all(eval(left) == int(right) for left, right in lines)
            digits = [right if place == len(lines) - 1 else right[-1] for place, (_, right) in enumerate(lines)]
            assert int("".join(reversed(digits))) == result


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        (18, 15, ["8,5>", "1,1=", "Ulm>Bonn"]),
        (15, 18, ["5,8<", "1,1=", "Bonn>Ulm"]),
        (51, 201, ["1,1=", "5,0>", "0,2<", "Bonn>Ulm"]),
        (7, 7, ["7,7=", "Ulm=Bonn"]),
    ],
)
def test_figures_are_compared_digit_by_digit(first, second, lines):
    assert in_order(("Ulm", str(first)), ("Bonn", str(second))) == lines


def test_the_last_digits_that_differ_decide_a_comparison():
    for a, b in product(range(0, 1200, 37), range(0, 1200, 29)):
        *digits, order = in_order(("A", str(a)), ("B", str(b)))
        signs = [line[-1] for line in digits if line[-1] != "="]
        assert order == {">": "A>B", "<": "B>A", "=": "A=B"}[signs[-1] if signs else "="]
        assert order[1] == ("=" if a == b else ">") and (order[0] == "A") == (a >= b)


@pytest.mark.parametrize("task", ["form", "long_form"])
def test_a_form_is_asked_for_its_fields(task, written):
    for sample, lines in pages(task, written):
        fields = {label.removesuffix(":"): value for label, value in lines}
        turns = dict((*sample.earlier, (sample.question, sample.answer)))
        assert len(fields) == 4
        assert all(fields[question.removesuffix("?")] == answer for question, answer in turns.items())


def test_a_conversation_shows_its_page_once():
    sample = DRAWERS["dialogue"]("train", np.random.default_rng(0))
    turns = json.loads(sample.members("k")["json"])["conversations"]
    assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(sample.earlier) + 1)
    assert [turn["value"].count("<image>") for turn in turns] == [1] + [0] * (len(turns) - 1)
    assert turns[0]["value"] == f"<image>\n{sample.earlier[0][0]}"
    assert [turn["value"] for turn in turns[-2:]] == [sample.question, sample.answer]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_page_depends_on_recipe_split_seed_and_index_only(recipe):
    first, again, other = (Draw(recipe, "dev", seed, 50)(17) for seed in (1, 1, 2))
    assert first.members("k") == again.members("k")
    assert first.members("k") != other.members("k")


def test_letters_grow_from_a_few_characters_to_full_pages():
    def longest(index):
        return max(len(Draw("letters", "train", 0, 1000)(index + i).answer) for i in range(5))

    assert longest(0) <= 4
    assert longest(150) <= 13
    assert longest(900) > 20


def test_mixtures_hold_their_tasks():
    def drawn(recipe):
        return {Draw(recipe, "train", 0, 60)(index).task for index in range(40)}

    assert drawn("reading") == {"text", "table", "chart"}
    assert drawn("questions") == {"text", "table", "chart", "lookup", "compare", "arithmetic", "form"}


def test_words_are_wrapped_and_too_long_ones_broken():
    assert wrapped(("a", "bc", "defghij", "k"), 0, 4, 4) == ["a bc", "defg", "hij", "k a"]
    assert wrapped(("ab",), 0, 8, 2) == ["ab ab ab", "ab ab ab"]
    assert wrapped(("x", "y"), 1, 1, 3) == ["y", "x", "y"]
