"""Readings of pages, kept where the known text or a second reading agrees."""

import io
from pathlib import Path

import pytest
from PIL import Image

from shards.factory.generators.in_process import InProcess
from shards.factory.kinds import Form, Label
from shards.factory.kinds.label import alike, smaller
from shards.factory.options import Options
from shards.factory.question import Known, Question
from shards.factory.requests import Response, Sampling
from shards.factory.run import run
from shards.factory.verifiers import Task
from tests.shards.factory.conftest import Made
from tests.shards.made import page

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen, all of them."
KNOWN = Known(0, "text", "Read it.", TEXT, Task(TEXT))
TABLE = "| a |\n| --- |\n| 1 |"


def reasons(kind, *texts, known=KNOWN, finish="stop"):
    responses = [Response(str(at), text, finish) for at, text in enumerate(texts)]
    return [each.verdict.reason for each in kind.judge(known, responses, Form(), None)]


def test_two_readings_are_alike_up_to_two_errors_of_a_hundred_characters():
    assert alike(TEXT, TEXT)
    assert alike(TEXT, TEXT.replace("April", "Apnl").replace("n", "n", 1)) is False  # two errors of 87 characters
    assert alike(TEXT, TEXT.replace("cold", "co1d"))
    long = TEXT * 12
    assert not alike(long, long.replace("thirteen, ", "", 1))  # a passage is missing, of fewer than 2 %
    assert alike(long, long.replace("thirteen", "thirten", 3))
    assert alike("", "")
    assert not alike("a", "b")


def test_a_reading_is_kept_where_the_known_text_agrees():
    kind = Label({"*": "text", "table": "table2markdown"})
    assert kind.samples == 1
    assert reasons(kind, TEXT.replace("cold", "co1d")) == [""]
    assert reasons(kind, TEXT[:40]) == ["another answer"]
    assert reasons(kind, TEXT, finish="length") == ["it ended by length"]
    assert reasons(kind, " \n") == ["it is empty or endless"]
    table = Known(0, "table", "Read it.", TABLE, Task(TABLE))
    assert reasons(kind, "|a|\n|-|\n|1|", known=table) == [""]
    assert reasons(kind, TABLE.replace("1", "2"), known=table) == ["another answer"]


def test_a_reading_is_kept_where_a_second_one_agrees_whatever_the_set_says():
    kind = Label({"*": "text"}, known=False)
    assert kind.samples == 2
    unknown = Known(0, "text", "Read it.", "-", Task("-"))
    assert reasons(kind, TEXT, TEXT.replace("cold", "co1d"), known=unknown) == ["", ""]
    assert (
        reasons(kind, TEXT, TEXT + " And more that was not read.", known=unknown)[0] == "a second reading is different"
    )
    judged = kind.judge(unknown, [Response("0", TEXT), Response("1", refused="status 400")], Form(), None)
    assert kind.choose(unknown, [TEXT, ""], judged, 0.0) == []


def test_the_second_reading_sees_a_smaller_page():
    question = Question(KNOWN, 0, "k", [], {"jpg": page(100)}, {})
    kind = Label({"*": "text"}, known=False)
    assert list(kind.images(question, 0)) == [("jpg", question.pictures["jpg"])]
    ((extension, data),) = kind.images(question, 1)
    assert (extension, Image.open(io.BytesIO(data)).size) == ("png", (70, 70))
    assert smaller(page(100), "0.jpg") == smaller(page(100), "0.jpg")


def test_labels_are_drawn_greedily():
    assert Label({"*": "text"}).sampling(Sampling(temperature=1.0), 0).temperature == 0


def test_what_is_read_becomes_answer_and_reference():
    question = Question(KNOWN, 0, "k", [], {}, {})
    assert Label({"*": "text"}).answer(question, Response("0", f" {TEXT}\n")) == {"answer": TEXT, "references": [TEXT]}


@pytest.mark.slow
def test_the_tiny_teacher_labels_pages(asked, tmp_path):
    """Its own generator, in this process, greedily: what it reads of text pages is kept where it agrees."""
    verifiers = {"*": None, "text": "text", "table": "table2markdown"}
    sampling = Sampling(0.0, max_tokens=400)
    run("label", {"verifiers": verifiers}, asked, tmp_path / "set", ["fcot/tiny/teacher"], sampling, Options(workers=1))
    made = Made(tmp_path / "set")
    statistics = made.manifest["data_factory"]["statistics"]["tasks"]
    assert made.manifest["samples"] == sum(row["written"] for row in statistics.values()) > 0
    assert InProcess(Path("fcot/tiny/teacher"), device="cpu").identity == made.manifest["data_factory"]["generator"]
