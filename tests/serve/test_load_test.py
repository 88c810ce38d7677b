"""`bench serve`: clients that do not wait for each other, and what they report."""

import json
import time

import pytest

from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.sizes import write_size
from fcot.serve.load_client import Reply, arrivals, ask, load
from fcot.serve.load_models import give_tokenizer
from fcot.serve.load_test import request, serve, summary, tell


@pytest.fixture(scope="module")
def served(served_without_key):
    return served_without_key


def body(served, new_tokens):
    return request(served.images[0].read_bytes(), 20, new_tokens)


def test_arrivals_are_random_times_at_a_rate_and_the_same_for_a_seed():
    times = arrivals(50, 100, seed=1)
    assert times == sorted(times) == arrivals(50, 100, seed=1) != arrivals(50, 100, seed=2)
    assert times[0] > 0 and times[-1] < 100 and 4500 < len(times) < 5500


def test_clients_do_not_wait_for_each_other(served):
    before = served.numbers()
    replies = load(served.port, [body(served, 30)], [0.0, 0.001, 0.002, 0.3])
    assert [reply.status for reply in replies] == [200] * 4
    assert [reply.due for reply in replies] == [0.0, 0.001, 0.002, 0.3]
    assert all(0 < reply.first <= reply.seconds and 0 < reply.tokens <= 30 for reply in replies)
    assert all(reply.visual_tokens > 0 for reply in replies)
    after = served.numbers()
    steps, tokens = (after[f"fcot_{name}_total"] - before[f"fcot_{name}_total"] for name in ("steps", "answer_tokens"))
    assert steps < 0.8 * tokens


def test_the_time_lost_before_asking_counts(served):
    reply = ask(served.port, body(served, 1), time.monotonic() - 1000, 995.0)
    assert reply.status == 200 and 5 < reply.first <= reply.seconds < 100


def test_refused_and_broken_requests_are_counted_apart(serve, served):
    small = serve(max_rows=1, max_waiting=0, key="")
    replies = load(small.port, [body(small, 40)], [0.0] * 6)
    assert {reply.status for reply in replies} == {200, 429}
    found = summary([*replies, ask(1, b"", time.monotonic(), 0.0)])
    assert (found["requests"], found["failed"]) == (7, 1)
    assert found["answered"] >= 1 and found["answered"] + found["refused"] == 6


def test_rates_and_percentiles_are_of_answered_requests():
    replies = [Reply(200, due, due / 10, due, 2, 64.0) for due in range(1, 101)] + [Reply(429, 0.0, 0.0, 0.1, 0, 0.0)]
    found = summary(replies)
    assert found["answers_per_second"] == 100 / 200 and found["tokens_per_second"] == 1.0
    assert found["visual_tokens"] == 64.0
    assert found["all"] == pytest.approx({"p50": 50.5, "p95": 95.05, "p99": 99.01})
    assert summary(replies[-1:])["all"] == {}


@pytest.mark.parametrize("rates", ["", "1,x", "0", "-1", "nan", "1e9"])
def test_a_rate_that_is_none_is_refused(rates):
    with pytest.raises(UserError, match="Give requests a second"):
        serve(rates=rates)


def test_a_size_given_a_tokenizer_sees_its_pages(tmp_path):
    give_tokenizer(write_size("100m", tmp_path))
    encoded = ModelFolder(tmp_path).encoder().prompt(["<image>\nWhat?"], [], [13])
    assert (encoded.ids == ModelFolder(tmp_path).config.image_token_id).sum() == 1


def test_what_was_measured_is_kept_when_the_bench_is_stopped(tmp_path, capsys):
    target, row = tmp_path / "found.json", {"ratio": 2, "rate": 4.0, "answers_per_second": 1.5}
    tell({"measured": [row]}, str(target))
    assert json.loads(target.read_text())["measured"] == [row]
    assert "ratio 2, 4 asked a second: 1.50 answered a second" in capsys.readouterr().err


@pytest.mark.slow
def test_teacher_and_student_are_asked_alike(tiny_checkpoint, tmp_path):
    serve(
        str(tiny_checkpoint),
        ratios="1,2",
        rates="2,8",
        seconds=1,
        page="150,100",
        max_tiles=2,
        new_tokens=4,
        device="cpu",
        json=str(tmp_path / "found.json"),
        plot=tmp_path / "found.png",
    )
    rows = json.loads((tmp_path / "found.json").read_text())["measured"]
    assert [(row["ratio"], row["rate"]) for row in rows] == [(1, 2), (1, 8), (2, 2), (2, 8)]
    assert [row["requests"] for row in rows[:2]] == [row["requests"] for row in rows[2:]]
    for row in rows:
        assert row["answered"] == row["requests"] and row["peak_bytes"] > 10**8
        assert row["visual_tokens"] == rows[0]["visual_tokens"] / row["ratio"] > 0
        assert 0 < row["first"]["p50"] <= row["all"]["p50"] <= row["all"]["p99"]
    assert (tmp_path / "found.png").stat().st_size > 1000
