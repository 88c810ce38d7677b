"""Which chains are kept, and what is written of them."""

from dataclasses import replace

import pytest

from fcot.errors import UserError
from shards.factory.kinds import ORIGINAL, Cot, Form, Judged
from shards.factory.kinds.cot import badly_formed, reasoning_of, tail, with_known_answer
from shards.factory.kinds.kind import filled
from shards.factory.question import Known, Question
from shards.factory.requests import Response, Sampling
from shards.factory.verifiers import VERIFIERS, Task, Verdict

NUMBER = {"*": "number", "table": "table2markdown", "text": None}
KNOWN = Known(3, "count", "How many?", "3 + 4 = 7\nAnswer: 7", Task("7", (), "How many?"))
RIGHT, WRONG = "red: 3\nblue: 4\n3 + 4 = 7\nAnswer: 7", "red: 3\nblue: 5\n3 + 5 = 8\nAnswer: 8"
FALSE = "red: 3\nblue: 5\n3 + 5 = 7\nAnswer: 7"
ACCEPTED, REJECTED = Judged(Verdict(True, "", "7"), True), Judged(Verdict(False, "another answer", "8"))
BY_LUCK = Judged(Verdict(False, "a false equation", "7"), True)


def judge(*texts, form=Form(), other=None, known=KNOWN, **changes):  # noqa: B008 - frozen
    responses = [replace(Response(str(at), text), **changes) for at, text in enumerate(texts)]
    return Cot(NUMBER).judge(known, responses, form, other)


def test_a_chain_is_accepted_where_conclusion_chain_and_form_hold():
    right, wrong, false, bare, endless = judge(RIGHT, WRONG, FALSE, "Answer: 7", "3 + 4 = 7\n" * 9 + "Answer: 7")
    assert right.verdict.accepted and right.right
    assert (wrong.verdict.reason, wrong.right) == ("another answer", False)
    assert (false.verdict.reason, false.right) == ("a false equation", True)
    assert (bare.verdict.reason, bare.right) == ("no reasoning", True)
    assert endless.verdict.reason == "it repeats itself"


def test_what_was_refused_or_cut_is_rejected():
    assert judge("", refused="status 400")[0].verdict.reason == "the generator refused"
    assert judge(RIGHT, finish_reason="length")[0].verdict.reason == "it ended by length"


def test_a_chain_much_shorter_or_longer_than_known_answers_is_rejected():
    assert badly_formed(RIGHT, Form(10, 1000)) == ""
    assert (
        badly_formed(RIGHT, Form(100, 1000))
        == badly_formed(RIGHT, Form(1, 20))
        == ("much shorter or longer than known answers")
    )
    repeated = "so it is what it is and " * 4 + "\nAnswer: 7"
    assert badly_formed(repeated, Form()) == "it repeats itself"
    assert badly_formed(repeated, Form(repetition=0.9)) == ""  # as known answers of this task do


def test_what_chance_would_accept_is_seen():
    other = replace(KNOWN, truth=Task("8"))
    assert [each.chance for each in judge(RIGHT, WRONG, other=other)] == [False, True]
    assert judge(RIGHT)[0].chance is None
    assert set(judge(RIGHT)[0].mutants) == {"first digit", "last digit", "sign"}
    assert judge(RIGHT)[0].mutants_accepted == judge(WRONG)[0].mutants == ()


def test_a_conclusion_that_stands_before_its_reasoning_is_seen():
    known = replace(KNOWN, truth=Task("70"))
    late = "red: 30 and then there is\nblue: 40 as it is written\n30 + 40 = 70\nAnswer: 70"
    early = f"70 it is. {late}"
    assert [each.early for each in judge(late, early, known=known)] == [False, True]


def choose(texts, judged, chance=0.0, number=3, **options):
    return Cot(NUMBER, level=options.pop("level", 1.0), **options).choose(
        replace(KNOWN, number=number), texts, judged, chance
    )


def test_the_most_different_accepted_chains_are_kept_and_one_where_all_were_right():
    texts = [
        "red is 3 and blue is 4",
        "red is 3, blue is 4",
        "wrong",
        "let us count them",
        "red is 3 and blue is 4",
    ]
    judged = [ACCEPTED, ACCEPTED, REJECTED, ACCEPTED, ACCEPTED]
    assert choose(texts, judged, mix=1.0) == [0, 3]
    assert choose(texts, judged, mix=1.0, most=9) == [0, 1, 3]  # each text once
    assert choose(texts, [ACCEPTED] * 5, mix=1.0) == [0]
    assert choose(texts, [BY_LUCK, *judged[1:]], mix=1.0) == [1, 3]
    assert choose(texts, [REJECTED] * 5) == []


def test_a_question_that_guessing_solves_as_often_is_dropped():
    texts = [str(at) for at in range(8)]
    six, eight = [ACCEPTED] * 6 + [REJECTED] * 2, [ACCEPTED] * 8
    assert tail(6, 8, 0.5) == pytest.approx(37 / 256)
    assert choose(texts, six, chance=0.5, level=0.05) == []
    assert choose(texts, six, chance=0.5, level=1.0) != []
    assert choose(texts, six, chance=0.1, level=0.05) != []
    assert choose(texts, eight, chance=0.5, level=0.05) != []
    assert tail(0, 8, 0.5) == 1
    assert tail(1, 8, 0.0) == 0


@pytest.mark.parametrize(("mix", "share"), [(1.0, 1.0), (0.8, 0.8), (0.5, 0.5)])
def test_the_mix_is_the_share_of_chains_where_one_is_kept(mix, share):
    chosen = [each for number in range(1000) for each in choose(["a"], [ACCEPTED], number=number, mix=mix, most=1)]
    assert sum(each != ORIGINAL for each in chosen) / len(chosen) == pytest.approx(share, abs=0.02)


def test_what_is_written_ends_in_one_known_answer():
    number, task = VERIFIERS["number"](), Task("1,200", ("1200 km",))
    assert with_known_answer("600 + 600 = 1200\nThe answer is 1200.", number, task) == "600 + 600 = 1200\nAnswer: 1,200"
    assert with_known_answer("<think>600 + 600 = 1200</think>\n1200", number, task) == (
        "600 + 600 = 1200\nAnswer: 1,200"
    )
    assert with_known_answer("It is so.\nAnswer: **1200**\nAnswer: 1200", number, task).count("Answer:") == 1
    listed = with_known_answer("Red and blue.\nAnswer: blue, red", VERIFIERS["list"](), Task(["red", "blue"]))
    assert listed.endswith("\nAnswer: red, blue")
    assert reasoning_of("<think>first</think>second\nAnswer: 3") == "second"
    assert reasoning_of("<think>first") == ""
    assert reasoning_of("3 + 4 = 7, so **the answer is 7") == "3 + 4 = 7"
    assert reasoning_of("So, the answer is 7") == ""
    assert reasoning_of("Look at the\nanswer: 7") == "Look at"


def test_a_thought_with_a_bare_answer_is_judged_and_written_alike():
    text = "<think>red: 3\nblue: 4\n3 + 4 = 7</think>7"
    assert judge(text)[0].verdict.accepted
    answer = Cot(NUMBER).answer(Question(KNOWN, 0, "k", [], {}, {}), Response("1", text))
    assert answer == {"answer": "red: 3\nblue: 4\n3 + 4 = 7\nAnswer: 7"}


def test_tables_and_tasks_left_out_are_not_asked():
    kind = Cot(NUMBER)
    assert [kind.asks(task) for task in ("count", "table", "text")] == [True, False, False]
    with pytest.raises(UserError, match="The task 'other' has no verifier"):
        Cot({"count": "number"}).verifier("other")


def test_the_question_keeps_its_pictures_and_earlier_turns():
    turns = [{"from": "human", "value": "<image>\nFirst {question}?"}, {"from": "gpt", "value": "one"}]
    turns.append({"from": "human", "value": "How many {samples}?"})
    question = Question(KNOWN, 0, "k", turns, {"jpg": b""}, {})
    prompts = Cot(NUMBER, "Think. {question} {other}", samples=3).prompts(question)
    assert len(prompts) == 3
    assert prompts[0] == [*turns[:2], {"from": "human", "value": "Think. How many {samples}? {other}"}]
    assert filled("{a}{b}", a="{b}", b="{a}") == "{b}{a}"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Cot(NUMBER, "no place"), "has no {question}"),
        (lambda: Cot(NUMBER, samples=0), "--samples is 0"),
        (lambda: Cot(NUMBER, mix=0.0), "--mix is 0.0"),
        (lambda: Cot(NUMBER, most=0), "--most is 0"),
        (lambda: Cot({"*": "numbr"}), "Did you mean 'number'"),
        (lambda: Sampling(temperature=-1), "--temperature is -1"),
        (lambda: Sampling(top_p=0), "--top_p is 0"),
        (lambda: Sampling(max_tokens=0), "--max_tokens is 0"),
    ],
)
def test_an_option_out_of_range_is_named(made, said):
    with pytest.raises(UserError, match=said):
        made()
