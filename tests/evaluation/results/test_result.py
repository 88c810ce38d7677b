"""The result of models on sets, and how it is written."""

import json

import numpy as np
import pytest
from PIL import Image

from fcot.evaluation.benchmarks.published import Published
from fcot.evaluation.results.picture import draw
from fcot.evaluation.results.result import result_of
from fcot.evaluation.results.table import markdown
from fcot.evaluation.results.terminal import print_result
from tests.evaluation.results.invented import answered, model

FIRST, SECOND = ["1", "1", "0 1", "1"], ["1", "0", "0", "1"]


def result(*models, published=(), scoring="internvl2", **options):
    return result_of(models, published, scoring=scoring, protocol="internvl2", **options)


def two(**fields):
    return model("teacher", answered(*FIRST, **fields)), model("student", answered(*SECOND, **fields))


def published(value, name="Some-1B", split="test", scoring="internvl2", share=1.0, source="a paper"):
    return Published(name, "invented_set", split, value, source, scoring, share)


def test_values_and_differences_are_those_worked_out_by_hand():
    found = result(*two(visual_tokens=[10.0, 20.0, 30.0, 40.0]))
    column = found["columns"]["invented_set"]
    assert (column["split"], column["n"], column["whole"], column["scoring"]) == ("test", 4, True, "internvl2")
    assert {label: each["value"] for label, each in column["models"].items()} == {"teacher": 75.0, "student": 50.0}
    assert found["average"]["models"] == {"teacher": 75.0, "student": 50.0}
    (pair,) = found["pairs"]
    assert pair["columns"]["invented_set"]["value"] == pytest.approx(-25)
    assert pair["columns"]["invented_set"]["ratio"]["value"] == pytest.approx(2 / 3)
    assert [each["visual_tokens"] for each in found["models"]] == [25.0, 25.0]


def test_the_other_rules_value_is_printed_where_it_differs():
    found = result(*two())
    cells = found["columns"]["invented_set"]["models"]
    assert cells["teacher"]["other"] == {"scoring": "definition", "value": 100.0}
    assert "other" not in cells["student"]
    assert "(definition 100.0)" in markdown(found)
    assert result(*two(), scoring="definition")["columns"]["invented_set"]["models"]["teacher"]["value"] == 100.0


def test_a_part_of_a_split_is_left_out_unless_allowed_and_marked_then():
    found = result(*two(whole=False))
    assert (found["columns"], found["average"], found["slices"]) == ({}, None, [])
    assert sum("not the whole split" in note for note in found["notes"]) == 2
    allowed = result(*two(whole=False), allow_partial=True)
    assert allowed["columns"]["invented_set"]["n"] == 4
    assert "Invented, test, n = 4, partial" in markdown(allowed)


def test_rows_that_failed_or_need_a_judge_count_as_wrong_and_are_named():
    of = answered("1", "?", "", "1", failed=["", "", "the picture is cut short", ""], visual_tokens=[8, 8, 0, 8])
    found = result(model("m", of))
    assert found["columns"]["invented_set"]["models"]["m"]["value"] == 50.0
    assert any("1 rows could not be asked" in note and "such as 2 (the picture" in note for note in found["notes"])
    assert any("1 of 4 answers (25%) need a judge" in note for note in found["notes"])
    assert found["models"][0]["visual_tokens"] == 8.0  # of pages that could be shown


def test_two_splits_of_a_benchmark_are_two_columns_and_the_further_one_is_in_no_average():
    found = result(model("m", answered(*FIRST), answered(*SECOND, split="other")), published=[published(70)])
    values = {name: each["models"]["m"]["value"] for name, each in found["columns"].items()}
    assert values == {"invented_set": 75.0, "invented_set/other": 50.0}
    assert found["average"]["columns"] == ["invented_set"]
    assert [each["mark"] for each in found["columns"]["invented_set/other"]["published"]] == ["†"]


def test_published_scores_of_another_split_or_rule_are_marked_and_the_same_split_is_preferred():
    scores = [published(81, split="val"), published(80), published(60, "Half", share=0.5, scoring=""),
              published(40, "Other", split="val")]  # fmt: skip
    for order in (scores, scores[::-1]):
        text = markdown(result(*two(), published=order))
        assert "| Some-1B (1) | 80.00 | 80.00 |" in text and "81" not in text
        assert "| Half 50% (1) | 60.00‡ | 60.00‡ |" in text
        assert "| Other (1) | 40.00† |  |" in text  # no average of another split
        assert "(1) a paper; † another split; ‡ another rule" in text


def test_a_published_row_without_a_measured_column_has_no_average():
    groups = ["", "", "", ""]
    of = answered(*FIRST, groups=groups)
    other = Published("Some-1B", "mme_perception", "test", 1400.0, "a paper")
    text = markdown(result(model("m", of), published=[other]))
    assert "## Published" not in text  # nothing of the measured columns is published


def test_the_result_is_json_even_where_a_ratio_has_no_bound():
    first = model("first", answered(*"1000"))
    found = result(first, model("second", answered(*"0110")))
    ratio = found["pairs"][0]["columns"]["invented_set"]["ratio"]
    assert ratio["value"] == pytest.approx(2) and ratio["high"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "∞]" in markdown(found)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_every_figure_whole(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    scores = [published(80), published(61.25, "InternVL2-2B FCoT-VL", share=0.5)]
    print_result(result(*two(), model("student-of-a-quarter", answered(*"0101")), published=scores))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    for words in ("Invented", "test, n = 4", "75.0", "−25.0 [−75.0, +0.0]", "average of 1", "InternVL2-2B FCoT-VL 50%",
                  "61.25"):  # fmt: skip
        assert words in shown


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_picture_has_a_colour_for_each_compared_model(tmp_path, number):
    models = [model(f"m{at}", answered(*FIRST[at:], *FIRST[:at])) for at in range(number)]
    draw(result(*models), tmp_path / "results.png")
    pixels = np.asarray(Image.open(tmp_path / "results.png").convert("RGB")).reshape(-1, 3)
    colours = {"m1": (0x44, 0x77, 0xAA), "m2": (0xEE, 0x66, 0x77)}
    drawn = [name for name, colour in colours.items() if (pixels == colour).all(axis=1).sum() > 20]
    assert drawn == [["m1"], ["m1"], ["m1", "m2"]][number - 1]  # a model alone is drawn in the first colour
