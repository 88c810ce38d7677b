import json

import pytest

from fcot.errors import UserError
from shards.feed.ledger import Ledger, Skip


def skip(ledger, count, reason="no_answer"):
    for number in range(count):
        ledger.take(0, [Skip("train/shard-000000.tar", f"{reason}{number}", reason, "an answer is empty")])


def test_each_skipped_sample_is_named_with_its_place_and_reason(tmp_path):
    ledger = Ledger(tmp_path / "skipped.jsonl", 100, 0.1)
    ledger.take(1, [])
    skip(ledger, 1)
    assert json.loads((tmp_path / "skipped.jsonl").read_text()) == {
        "split": "train",
        "shard": "train/shard-000000.tar",
        "key": "no_answer0",
        "reason": "no_answer",
        "detail": "an answer is empty",
    }
    assert (ledger.seen, ledger.skipped) == (2, 1)


def test_reasons_are_counted(tmp_path):
    ledger = Ledger(tmp_path / "skipped.jsonl", 100, 1.0)
    skip(ledger, 1, "too_long")
    skip(ledger, 2, "no_answer")
    assert ledger.summary() == "2 no_answer, 1 too_long"


def test_an_earlier_runs_lines_are_kept_but_not_counted(tmp_path):
    skip(Ledger(tmp_path / "skipped.jsonl", 100, 1.0), 3, "too_long")
    ledger = Ledger(tmp_path / "skipped.jsonl", 100, 1.0)
    skip(ledger, 1, "no_answer")
    assert ledger.summary() == "1 no_answer"
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 4


def test_splits_share_a_file_and_are_counted_apart(tmp_path):
    dev, train = (Ledger(tmp_path / "skipped.jsonl", 100, 1.0, split) for split in ("dev", "train"))
    skip(dev, 2, "too_long")
    skip(train, 1, "no_answer")
    assert (dev.summary(), train.summary()) == ("2 too_long", "1 no_answer")


def test_a_sample_is_named_once_and_counted_each_time(tmp_path):
    ledger = Ledger(tmp_path / "skipped.jsonl", 100, 1.0)
    skip(ledger, 2)
    skip(ledger, 2)
    assert ledger.summary() == "4 no_answer"
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 2


def test_a_strict_ledger_stops_at_the_first(tmp_path):
    with pytest.raises(UserError, match=r"train/shard-000000.tar 'no_answer0': no_answer, an answer is empty\."):
        skip(Ledger(None, 100, 1.0, strict=True), 1)


def test_a_pass_must_add_up():
    ledger = Ledger(None, 10, 1.0)
    for _ in range(2):
        ledger.begin([Skip("train/a.tar", "x", "cut_shard", "the file ends")])
        ledger.take(6, [])
        skip(ledger, 2)
        ledger.close(9)
    with pytest.raises(UserError, match="should give 10 samples in this pass, and 9 were"):
        ledger.close(10)


def test_the_run_stops_only_beyond_the_share(tmp_path):
    ledger = Ledger(tmp_path / "skipped.jsonl", 200, 0.01)
    skip(ledger, 2)
    ledger.check()
    skip(ledger, 1)
    with pytest.raises(UserError) as caught:
        ledger.check()
    message = str(caught.value)
    assert "3 of 200 samples could not be used, more than max_skipped=1.00% (3 no_answer)" in message
    assert str(tmp_path / "skipped.jsonl") in message
    assert "--data.max_skipped" in message


def test_a_set_of_unknown_size_has_a_thousand_samples_grace():
    ledger = Ledger(None, None, 0.01)
    skip(ledger, 10)
    ledger.check()
    skip(ledger, 1)
    with pytest.raises(UserError, match=r"11 of 1000 .*\(11 no_answer\)"):
        ledger.check()


def test_several_processes_are_judged_and_told_of_together():
    first, second = Ledger(None, 100, 0.1), Ledger(None, 100, 0.1)
    first.take(5, [])
    skip(first, 2, "no_answer")
    second.take(10, [])
    skip(second, 1, "too_long")
    together = first.together([first.counts(), second.counts()])
    assert (together.seen, together.summary()) == (18, "2 no_answer, 1 too_long")
    together.check()
    with pytest.raises(UserError, match="3 of 18"):
        together.check(final=True)
    assert first.summary() == "2 no_answer"


def test_at_the_end_what_was_seen_is_the_whole():
    ledger = Ledger(None, None, 0.01)
    skip(ledger, 1)
    ledger.check()
    with pytest.raises(UserError, match="1 of 1 samples"):
        ledger.check(final=True)
