"""What a run says of itself."""

import pytest

from shards.factory.kinds import Judged
from shards.factory.requests import Response
from shards.factory.statistics import Statistics, Tally, is_reasoned, lines, lucky, mean, trust
from shards.factory.verifiers import Verdict

RIGHT = Judged(Verdict(True, "", "7"), True, False, ("sign",), ())
LUCKY = Judged(Verdict(False, "a false equation", "7"), True, True)
WRONG = Judged(Verdict(False, "another answer", "8"), False, None)


def responses(*texts):
    return [Response(str(at), text, prompt_tokens=10, answer_tokens=5) for at, text in enumerate(texts)]


def test_the_guessed_share_of_right_conclusions():
    assert lucky(0.5, 0.5) == 1  # guessing alone
    assert lucky(0.75, 0.5) == pytest.approx(1 / 3)  # half is known, half of the rest is guessed
    assert lucky(1.0, 0.5) == 0
    assert lucky(0.3, 0.0) == 0
    assert lucky(0.0, 0.5) == 0
    assert lucky(0.2, 0.5) == 1  # worse than guessing


def test_means_have_intervals_over_questions():
    few, many = mean([0.0, 1.0] * 50), mean([0.0, 1.0] * 20_000)
    assert few["mean"] == many["mean"] == 0.5
    assert few["low"] == pytest.approx(0.4, abs=0.03)
    assert few["high"] == pytest.approx(0.6, abs=0.03)
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * 0.5 / 200, abs=1e-3)
    assert mean([]) is None
    assert mean([0.25]) == {"mean": 0.25, "low": 0.25, "high": 0.25}


def test_a_question_is_counted():
    tally = Tally()
    tally.add("3 + 4 = 7\nAnswer: 7", None, responses("a", "b", "c"), [RIGHT, LUCKY, WRONG])
    tally.add("Answer: 7", 0.5, responses("a", "a", "a"), [RIGHT, RIGHT, RIGHT])
    found = tally.report()
    assert (found["questions"], found["responses"]) == (2, 6)
    assert found["accepted"]["mean"] == pytest.approx((1 / 3 + 1) / 2, abs=1e-4)
    assert found["right_conclusion"]["mean"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-4)
    assert found["solved"] == {"2": 1, "3": 1}
    assert found["rejected"] == {"a false equation": 1, "another answer": 1}
    assert found["distinct_share_of_accepted"] == 0.5  # a, and a of the other question
    assert found["questions_of_identical_responses"] == 0.5
    assert found["chance"] == 0.5
    assert found["tokens_an_accepted_response"] == 6 * 15 / 4
    assert found["wrong_on_purpose"] == {"sign": [0, 4]}


def test_chance_is_what_other_answers_accept_where_there_are_no_options():
    tally = Tally()
    tally.add("7", None, responses("a", "b"), [RIGHT, LUCKY])
    assert tally.report()["chance"] == 0.5


def test_the_figures_are_told_in_lines():
    statistics = Statistics()
    statistics.tasks["count"].add("7", None, responses("a", "b"), [RIGHT, WRONG])
    report = statistics.report()
    assert "0.500 [0.500, 0.500]" in lines(report)[1]
    assert trust(report) == [
        "Of 1 conclusions made wrong on purpose, the verifiers accept 0.",
        "Guessing explains at most 0.0% of the right conclusions of a task.",
    ]
    assert trust(Statistics().report())[0].startswith("Of 0 conclusions")


def test_an_answer_is_reasoned_where_something_stands_before_its_conclusion():
    assert is_reasoned("3 + 4 = 7\nAnswer: 7")
    assert not is_reasoned("Answer: 7")
    assert not is_reasoned("7")
    assert not is_reasoned("<think>3")
