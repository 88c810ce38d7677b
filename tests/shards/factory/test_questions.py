"""What is asked of a sample, and what its known answer is."""

import json
import tarfile

import pytest

from fcot.errors import UserError
from shards.factory.examples import examples_of
from shards.factory.question import Question
from shards.factory.questions import concluded, options_of, question_of, questions
from shards.format.shard_set import ShardSet
from tests.shards.made import add, page


def turns(*texts):
    return [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(texts)]


@pytest.fixture
def source(tmp_path):
    """Samples of several kinds in one shard, one that is no question among them."""
    (tmp_path / "set").mkdir()
    records = [
        {"conversations": turns("<image>\nHow many?", "3 + 4 = 7\nAnswer: 7."), "task": "count"},
        {"conversations": turns("<image>\nFirst?", "one", "And then?", "two"), "references": ["two", "2"]},
        {"conversations": turns("What?", "this", "Why?", ["that"]), "task": "count"},
        {"conversations": turns("<image>\n<image>\nWhich is more, red or blue?", "Answer: blue"), "task": "compare"},
    ]
    with tarfile.open(tmp_path / "set" / "shard-000000.tar", "w") as tar:
        for number, record in enumerate(records):
            for image in range(json.dumps(record).count("<image>")):
                add(tar, f"{number:03d}.{image}.jpg", page())
            add(tar, f"{number:03d}.json", json.dumps(record).encode())
    return ShardSet(tmp_path / "set")


def test_the_last_question_is_asked_and_its_answer_known(source):
    first, second = question_of(source, 0), question_of(source, 1)
    assert (first.known.text, first.known.gold, first.known.task) == ("How many?", "3 + 4 = 7\nAnswer: 7.", "count")
    assert first.known.truth.accepted == ["7"]
    assert first.turns == turns("<image>\nHow many?")
    assert [kind for kind, _ in first.images] == ["jpg"]
    assert (second.known.text, second.known.task) == ("And then?", "unknown")
    assert second.known.truth.accepted == ["two", "2"]
    assert [turn["value"] for turn in second.turns] == ["<image>\nFirst?", "one", "And then?"]


def test_options_and_pictures_are_found(source):
    question = question_of(source, 3)
    assert question.known.truth.options == ("red", "blue")
    assert question.known.chance == 0.5
    assert len(question.images) == 2
    assert question_of(source, 0).known.chance is None


def test_a_sample_that_cannot_be_used_is_given_with_its_reason(source):
    found = list(questions(source, 0))
    assert [each.key if isinstance(each, Question) else each.reason for each in found] == [
        "000",
        "001",
        "bad_json",
        "003",
    ]
    assert len(list(questions(source, 0, limit=2))) == 2


def test_what_an_answer_concludes():
    assert concluded("It is so.\nAnswer: 12 km.") == "12 km"
    assert concluded("The answer is \\boxed{5}.") == "5"
    assert concluded("just this") == "just this"
    assert concluded("<think>never ends") == "<think>never ends"
    assert concluded("<think>Answer: 3</think>Answer: 4") == "4"


@pytest.mark.parametrize(
    ("question", "truth", "options"),
    [
        ("Which?\nA. granite\nB. slate\nC) chalk", "B", ("granite", "slate", "chalk")),
        ("Which?\n(A) granite\n(B) slate", "A", ("granite", "slate")),
        ("Which?\nA. granite\nC. chalk", "A", ()),
        ("Which?\nA. granite", "A", ()),
        ("Is it granite or slate?", "Slate", ("granite", "slate")),
        ("Which is more: granite or slate?", "slate", ("granite", "slate")),
        ("Larger: La Paz or Sucre?", "La Paz", ("La Paz", "Sucre")),
        ("Does it show granite or slate?", "granite", ("granite", "slate")),
        ("Is it granite or slate?", "chalk", ()),
        ("How many?", "3", ()),
    ],
)
def test_options_are_those_that_a_question_lists(question, truth, options):
    assert options_of(question, truth) == options


def test_examples_are_answers_of_three_lengths_for_each_task(tmp_path):
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "shard-000000.tar", "w") as tar:
        for number in range(12):
            record = {"conversations": turns("What?", "word " * (12 - number)), "task": "read"}
            add(tar, f"{number:03d}.json", json.dumps(record).encode())
    found = examples_of(tmp_path / "set")
    assert {task: [len(text.split()) for text in texts] for task, texts in found.items()} == {"read": [4, 7, 10]}


def test_a_set_without_answers_has_no_examples(tmp_path):
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "shard-000000.tar", "w") as tar:
        add(tar, "000.json", json.dumps({"conversations": turns("What?", "this", "Why?", ["that"])}).encode())
    with pytest.raises(UserError, match="holds no answers"):
        examples_of(tmp_path / "set")
