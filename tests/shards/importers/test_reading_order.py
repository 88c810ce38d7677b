"""The order in which the words of a page are read, from where they stand."""

import random

import pytest

from shards.importers.page_tables import with_tables
from shards.importers.reading_order import Box, plain_text, reading_order

LETTER, HEIGHT, LEADING = 6, 10, 14


def line(text, left, top):
    """Words one after the other from a place on."""
    boxes = []
    for word in text.split():
        boxes.append(Box(word, left, top, left + LETTER * len(word), top + HEIGHT))
        left += LETTER * (len(word) + 0.5)
    return boxes


def page(*blocks):
    """The words of blocks of text, each `(left, top, lines)`."""
    return [
        box
        for left, top, lines in blocks
        for n, text in enumerate(lines)
        for box in line(text, left, top + LEADING * n)
    ]


LEFT = ["the north has seen rain", "for most of the month", "and the rivers are high"]
RIGHT = ["in the south the wells", "are dry since early May", "and no rain is in sight"]
TITLE, FOOT = ["A country of two halves as seen by its weather"], ["continued on the page that follows this one here"]


def read(boxes, **options):
    """The text, which must not depend on the order that the words are listed in."""
    text = plain_text(reading_order(boxes, **options))
    for seed in range(3):
        other = random.Random(seed).sample(boxes, len(boxes))
        assert plain_text(reading_order(other, **options)) == text
    return text.splitlines()


@pytest.mark.parametrize("shift", [0, 3, 7])
def test_columns_are_read_one_after_the_other_below_their_title(shift):
    boxes = page((0, 0, TITLE), (0, 30, LEFT), (180, 30 + shift, RIGHT), (0, 90, FOOT))
    assert read(boxes) == [*TITLE, *LEFT, *RIGHT, *FOOT]


def test_three_columns_are_read_from_left_to_right():
    third = ["while on the islands all", "is as it has ever been", "said the man at the pier"]
    assert read(page((0, 0, LEFT), (180, 0, RIGHT), (360, 0, third))) == [*LEFT, *RIGHT, *third]


def test_a_short_last_column_is_read_last():
    assert read(page((0, 0, LEFT), (180, 0, RIGHT[:2]))) == [*LEFT, *RIGHT[:2]]


def test_a_table_is_read_row_by_row():
    boxes = page((0, 0, ["item", "bolts", "nuts"]), (90, 0, ["price", "12", "7"]), (180, 0, ["total", "40", "9"]))
    assert read(boxes) == ["item price total", "bolts 12 40", "nuts 7 9"]


def test_a_form_is_read_row_by_row():
    labels, values = ["Invoice number", "Due date", "Amount"], ["INV 22", "12 May", "EUR 42"]
    assert read(page((0, 0, labels), (140, 0, values))) == [
        "Invoice number INV 22", "Due date 12 May", "Amount EUR 42"
    ]  # fmt: skip


def test_labels_are_read_with_what_stands_beside_them():
    labels = ["Name of the customer:", "Place of the delivery:", "Day of the order:"]
    values = ["Maria de la Cruz", "12 Rue de Rivoli", "the first of May"]
    assert read(page((0, 0, labels), (180, 0, values)))[0] == "Name of the customer: Maria de la Cruz"


def test_known_lines_tell_short_columns_from_a_table():
    left, right = ["rain fell", "all day"], ["no wind", "blew here"]
    boxes = page((0, 0, left), (120, 0, right))
    assert read(boxes) == ["rain fell no wind", "all day blew here"]
    lines = [Box(text, x, LEADING * n, x + 60, LEADING * n + HEIGHT) for x, t in ((0, left), (120, right))
             for n, text in enumerate(t)]  # fmt: skip
    assert read(boxes, whole_lines=lines) == [*left, *right]
    across = [Box("", 0, LEADING * n, 200, LEADING * n + HEIGHT) for n in range(2)]
    assert read(boxes, whole_lines=across) == ["rain fell no wind", "all day blew here"]


def test_words_of_a_line_need_not_be_level():
    boxes = [Box(word, 40 * n, 3 * (n % 2), 40 * n + 30, 10 + 3 * (n % 2)) for n, word in enumerate("abcd")]
    assert read(boxes) == ["a b c d"]


def test_tables_are_written_in_markdown_and_text_is_not():
    boxes = page(
        (0, 0, ["Prices of the week as they were on Monday"]),
        (0, 20, ["item", "bolts", "nuts|small"]),
        (120, 20, ["each", "12", "7"]),
        (200, 34, ["40"]),
        (0, 70, ["All prices are without tax and subject to change"]),
    )
    assert with_tables(reading_order(boxes)).splitlines() == [
        "Prices of the week as they were on Monday",
        "item each",
        "| bolts | 12 | 40 |",
        "| --- | --- | --- |",
        "| nuts\\|small | 7 |  |",
        "All prices are without tax and subject to change",
    ]


def test_a_head_without_a_corner_belongs_to_its_table():
    boxes = page((0, 14, ["bolts", "nuts"]), (90, 0, ["May", "12", "7"]), (180, 0, ["June", "40", "9"]))
    assert with_tables(reading_order(boxes)).splitlines() == [
        "|  | May | June |",
        "| --- | --- | --- |",
        "| bolts | 12 | 40 |",
        "| nuts | 7 | 9 |",
    ]


def test_a_page_without_words_and_pages_of_many_words_end():
    assert reading_order([]) == []
    assert with_tables([]) == ""
    many = page(*((120 * n, 0, ["a b c", "d e f"] * 40) for n in range(20)))
    assert len(reading_order(many)) == 80 * 20
    assert len(with_tables(reading_order(page(*((90 * n, 0, ["1"] * 900) for n in range(5))))).splitlines()) == 901
