"""Typed conversations hold their table, and every answer follows from it."""

import json
import re

import numpy as np
import pytest

from shards.render.recipes import DRAWERS, SPLITS
from shards.render.sources import tables
from shards.render.typed import figure


def conversation(sample):
    """A sample's questions and answers, without the rows typed above the first question; and those rows."""
    (first, answer), *more = *sample.earlier, (sample.question, sample.answer)
    *typed, question = first.split("\n")
    return [(question, answer), *more], dict(row.split(": ") for row in typed)


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_follows_from_the_rows_that_were_typed(split):
    names = {row[0] for table in tables(split) for row in table.rows}
    asked, lengths, invented = set(), set(), 0
    for index in range(40):
        turns, rows = conversation(DRAWERS["typed"](split, np.random.default_rng([3, index])))
        assert 2 <= len(rows) <= 6
        assert names.isdisjoint(rows) or names.issuperset(rows)
        invented += names.isdisjoint(rows)
        values = {name: int(value) for name, value in rows.items()}
        for question, answer in turns:
            read = [line.split(": ") for line in answer.split("\n") if ": " in line]
            used, (_, result) = [name for name, _ in read[:-1]], read[-1]
            assert all(rows[name] == value for name, value in read[:-1])
            if match := re.fullmatch(r"(Larger|Smaller): (.+) or (.+)\?", question):
                assert used[-2:] == [match[2], match[3]]
                assert result == (max if match[1] == "Larger" else min)(match[2], match[3], key=values.get)
            elif match := re.fullmatch(r"Sum of (.+) and (.+)\?", question):
                assert int(result) == values[match[1]] + values[match[2]]
            elif match := re.fullmatch(r"(.+) minus (.+)\?", question):
                assert int(result) == values[match[1]] - values[match[2]]
            else:
                match = re.fullmatch(r"(?:Pop|Area) of (.+)\?", question)
                assert result == rows[match[1]]
            asked.add(question.split(" ")[0])
        lengths.update(len(value) for value in rows.values())
    assert {"Larger:", "Smaller:", "Sum", "Pop", "Area"} <= asked
    assert lengths == {1, 2, 3, 4}
    assert 3 <= invented <= 20  # a quarter


def test_a_drill_is_right():
    asked = set()
    for index in range(40):
        turns, rows = conversation(DRAWERS["drill"]("train", np.random.default_rng([4, index])))
        assert not rows
        for question, answer in turns:
            result = int(answer.rsplit("Answer: ")[-1])
            if match := re.fullmatch(r"(Larger|Smaller): (\d+) or (\d+)\?", question):
                assert result == (max if match[1] == "Larger" else min)(int(match[2]), int(match[3]))
            else:
                assert result == eval(question.removesuffix("?")) >= 0
            asked.add(re.sub(r"\d+", "", question))
    assert asked == {"Larger:  or ?", "Smaller:  or ?", "+?", "-?"}


def test_a_typed_conversation_has_no_page():
    members = DRAWERS["typed"]("dev", np.random.default_rng(0)).members("k")
    assert set(members) == {"__key__", "json"}
    assert "<image>" not in json.loads(members["json"])["conversations"][0]["value"]


def test_figures_have_one_to_four_digits_and_no_leading_zero():
    drawn = [figure(np.random.default_rng(index)) for index in range(200)]
    assert {len(value) for value in drawn} == {1, 2, 3, 4}
    assert all(value[0] != "0" for value in drawn)
