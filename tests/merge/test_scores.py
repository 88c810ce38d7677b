import json

import pytest
import torch

from fcot.merge import Combination, ScoreBook

BASE = {"x": torch.zeros(1)}
CHECKPOINTS = [{"x": torch.ones(1)}, {"x": torch.full((1,), 2.0)}]


def mixture(*weights):
    return Combination(BASE, CHECKPOINTS, weights)


def book(file, calls, **changes):
    def utility(weights):
        calls.append(float(weights["x"]))
        return calls[-1] / 3

    options = {"base": "b", "checkpoints": ["one", "two"], "utility_fingerprint": "dev, n = 8", **changes}
    return ScoreBook(file, utility, **options)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "merged.cache" / "scores.jsonl"


def test_a_mixture_is_scored_once_across_runs_and_to_the_last_bit(file):
    calls = []
    first = book(file, calls)
    scores = [first(mixture(0.1, 0.7)), first(mixture(0.1, 0.7))]
    assert book(file, calls)(mixture(0.1, 0.7)) == scores[0] == scores[1]
    assert len(calls) == 1
    assert first.evaluations == 1


def test_a_score_is_on_disk_before_the_next_is_begun(file):
    scores = book(file, [])
    for done in range(1, 4):
        scores(mixture(done / 7, 0.0))
        assert len(file.read_text().splitlines()) == done


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_half_a_last_line_is_scored_again_and_later_lines_stay_whole(file, kept):
    calls = []
    first = book(file, calls)
    scores = [first(mixture(weight, 0.0)) for weight in (0.25, 0.5)]
    whole, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(whole + last[: int(kept * len(last))])
    resumed = book(file, calls)
    assert [resumed(mixture(weight, 0.0)) for weight in (0.25, 0.5, 0.75)] == [*scores, 0.25]
    assert calls == [0.25, 0.5, 0.5, 0.75]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["weights"] for line in lines] == [[0.25, 0.0], [0.5, 0.0], [0.75, 0.0]]


def test_an_unreadable_line_costs_one_evaluation(file):
    calls = []
    first = book(file, calls)
    for weight in (0.25, 0.5):
        first(mixture(weight, 0.0))
    _, last = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"\0\0\0\n[]\n" + last)
    resumed = book(file, calls)
    resumed(mixture(0.5, 0.0))
    resumed(mixture(0.25, 0.0))
    assert calls == [0.25, 0.5, 0.25]


@pytest.mark.parametrize(
    "change", [{"base": "c"}, {"checkpoints": ["one", "three"]}, {"utility_fingerprint": "dev, n = 9"}]
)
def test_a_change_of_what_is_scored_is_scored_anew(file, change):
    calls = []
    book(file, calls)(mixture(0.5, 0.5))
    book(file, calls, **change)(mixture(0.5, 0.5))
    assert len(calls) == 2


def test_a_snapshot_that_is_not_mixed_in_does_not_matter(file):
    calls = []
    book(file, calls)(mixture(0.5, 0.0))
    book(file, calls, checkpoints=["one", "three"])(mixture(0.5, 0.0))
    assert len(calls) == 1
