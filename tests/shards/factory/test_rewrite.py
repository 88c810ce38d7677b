"""Answers in the teacher's tone, to which nothing was added."""

import pytest

from shards.factory.kinds import ORIGINAL, Form, Rewrite
from shards.factory.options import Options
from shards.factory.question import Known, Question
from shards.factory.requests import Response, Sampling
from shards.factory.run import run
from shards.factory.verifiers import Task
from tests.shards.factory.conftest import VERIFIERS, Made

TOLD = ["There are red and blue ones, and that makes them.\nAnswer: 5", "One sees {answer}.\nAnswer: 2", "x"]
EXAMPLES = {"count": TOLD}
KNOWN = Known(0, "count", "How many does Ann see?", "7", Task("7"))


@pytest.fixture
def kind():
    return Rewrite({"*": "number", "page": "table2markdown", "text": None}, examples=EXAMPLES)


def question(text="How many does Ann see?", task="count"):
    known = Known(0, task, text, "7", Task("7"))
    return Question(known, 0, "k", [{"from": "human", "value": f"<image>\n{text}"}], {"jpg": b"picture"}, {})


def reasons(kind, *texts):
    return [each.verdict.reason for each in kind.judge(KNOWN, [Response("0", text) for text in texts], Form(), None)]


def test_the_known_answer_and_the_tone_are_shown_and_no_picture(kind):
    asked = question("How many {answer}?")
    ((turn,),) = kind.prompts(asked)
    assert "Question: How many {answer}?\nCorrect answer: 7" in turn["value"]
    assert "There are red and blue ones" in turn["value"]
    assert "One sees {answer}." in turn["value"]  # what is filled in is not filled again
    assert "<image>" not in turn["value"]
    assert kind.images(asked, 0) == ()


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("How many? Answer the question using a single word or phrase.", "count"),
        ("Which? Answer with the option's letter from the given choices directly.", "count"),
        ("How many?", "page"),
        ("How many?", "text"),
        ("How many?", "without examples"),
    ],
)
def test_short_forms_whole_pages_and_what_has_no_examples_are_not_rewritten(kind, text, task):
    assert kind.prompts(question(text, task)) == []


def test_a_rewritten_answer_says_the_same_and_adds_nothing(kind):
    assert reasons(
        kind,
        "Ann sees them all.\nAnswer: 7",
        "Ann sees them all.\nAnswer: 8",
        "Ann sees 3 of them.\nAnswer: 7",
        "Ann sees what Bob sees.\nAnswer: 7",
        "Ann sees them. " * 20 + "\nAnswer: 7",
        "Answer: 7",
    ) == [
        "",
        "another answer",
        "it adds facts",
        "it adds facts",
        "much shorter or longer than known answers",
        "no reasoning",
    ]


def test_where_nothing_is_accepted_the_sample_stays_as_it_is(kind):
    texts = ["So does Bob.\nAnswer: 7", "Ann sees them.\nAnswer: 7"]
    judged = kind.judge(KNOWN, [Response("0", text) for text in texts], Form(), None)
    assert kind.choose(KNOWN, texts, judged, 0.0) == [1]
    assert kind.choose(KNOWN, texts[:1], judged[:1], 0.0) == [ORIGINAL]
    assert kind.choose(KNOWN, [], [], 0.0) == [ORIGINAL]
    assert kind.answer(question(), Response("0", "Ann sees them.\nAnswer: **7.0**")) == {
        "answer": "Ann sees them.\nAnswer: 7"
    }


@pytest.mark.slow
def test_a_set_that_nothing_was_rewritten_of_holds_its_samples_as_they_are(asked, served, tmp_path):
    """The tiny teacher cannot rewrite, and the set says so: every sample stays, and is counted."""
    how = {"verifiers": VERIFIERS, "examples": {"lookup": TOLD}}
    options = Options(model="tiny", workers=1, timeout=60.0)
    sampling = Sampling(0.7, max_tokens=20)
    run("rewrite", how, asked, tmp_path / "set", [served.url("rewrite")], sampling, options)
    statistics = Made(tmp_path / "set").manifest["data_factory"]["statistics"]["tasks"]
    assert statistics["lookup"]["kept_as_they_are"] == statistics["lookup"]["questions"] > 0
