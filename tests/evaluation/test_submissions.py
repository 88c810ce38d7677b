"""Files that test servers and official judges read, against samples of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fcot.evaluation.benchmarks import BENCHMARKS
from fcot.evaluation.benchmarks.mme import row_of
from fcot.evaluation.rows import Answer

FORMATS = Path(__file__).parent / "formats"
SUBMISSIONS = FORMATS / "submissions"


def submitted(name, said, layout, root=FORMATS):
    """The files of a set, each of whose rows is answered with the next text."""
    short, split = name.split("/")
    kind = BENCHMARKS[short]()
    source = next(source for source in kind.find(root, split) if source.layout == layout)
    rows = kind.rows(source, split)
    answers = {row.id: Answer(row.id, text) for row, text in zip(rows, said, strict=False)}
    return kind.submission(rows[: len(said)], answers, split)


@pytest.mark.parametrize(("layout", "first"), [("official", 90001), ("parquet", 90501)])
def test_the_robust_reading_competition_gets_numbers_and_texts(layout, first):
    expected = json.loads((SUBMISSIONS / "rrc_docvqa_test.json").read_text())
    files = submitted("docvqa/test", [row["answer"] for row in expected], layout)
    for number, row in enumerate(expected):
        row["questionId"] = first + number  # the Hub's sample has texts there, and other numbers
    assert {name: json.loads(text) for name, text in files.items()} == {"rrc_docvqa_test.json": expected}


@pytest.mark.parametrize("layout", ["official", "internvl", "parquet"])
def test_evalai_gets_numbers_and_texts(layout):
    expected = json.loads((SUBMISSIONS / "evalai_textvqa_test.json").read_text())
    files = submitted("textvqa/val", [row["answer"] for row in expected], layout)
    assert {name: json.loads(text) for name, text in files.items()} == {"evalai_textvqa_val.json": expected}


def test_a_layout_without_the_servers_ids_makes_no_file_of_wrong_ones():
    assert submitted("docvqa/val", ["a", "b", "c"], "tsv") == {}


@pytest.mark.parametrize("layout", ["official", "parquet"])
def test_mathvistas_judge_finds_the_problem_and_the_response(layout):
    (expected,) = json.loads((SUBMISSIONS / "mathvista_output.json").read_text()).values()
    del expected["extraction"]  # which the judge makes of this response
    said = json.loads(submitted("mathvista/testmini", [expected["response"]], layout)["mathvista_testmini.json"])
    assert expected.items() <= said["1"].items()
    assert "extraction" not in said["1"]
    said = json.loads(submitted("mathvista/testmini", ["3"], layout)["mathvista_testmini.json"])
    assert said["1"]["extraction"] == "3"


@pytest.mark.parametrize("layout", ["official", "internvl", "parquet", "tsv"])
def test_mmes_tool_gets_a_file_for_each_category(layout):
    expected = (SUBMISSIONS / "mme_color.txt").read_text()
    files = submitted("mme/test", [line.split("\t")[-1] for line in expected.splitlines()], layout)
    assert files == {"mme/color.txt": expected}


def test_mmes_pairs_are_two_lines_in_a_row_whatever_is_said():
    asked = ("a1", "b1", "a2", "b2")
    rows = [replace(row_of(None, f"Is it {each}?", "Yes", "color", each[0]), id=each) for each in asked]
    answers = {each: Answer(each, "Yes,\r\nit\tis.") for each in asked}
    (text,) = BENCHMARKS["mme"]().submission(rows, answers, "test").values()
    cells = [line.split("\t") for line in text.splitlines()]
    assert [line[1] for line in cells] == ["Is it a1?", "Is it a2?", "Is it b1?", "Is it b2?"]
    assert {line[3] for line in cells} == {"Yes,it is."}
