"""Responses on disk."""

import json

import pytest

from fcot.errors import UserError
from shards.factory.asking import record
from shards.factory.journal import Journal, Place, parsed, response_at, written
from shards.factory.meter import Limits, Meter
from shards.factory.requests import Request, Response, request_id

TEXTS = ["plain", "two\nlines", "“quoted” \u2028 and 數", "\x00\x1b", '"}]', ""]


@pytest.fixture
def journal(tmp_path):
    found = Journal(tmp_path / "deep" / "responses.jsonl")
    for number, text in enumerate(TEXTS):
        found.append(Response(str(number), text, seconds=0.1))
    found.close()
    return found


def test_responses_come_back_as_they_were(journal):
    found = journal.read()
    assert [found[str(number)][0].text for number in range(len(TEXTS))] == TEXTS
    assert journal.damaged == 0
    assert journal.path.read_bytes().count(b"\n") == len(TEXTS)
    for response, place in found.values():
        assert response_at(journal.path, place) == response


def test_no_byte_can_change_unnoticed(journal):
    line = journal.path.read_bytes().splitlines(keepends=True)[2]
    right = parsed(line)
    changed = [
        parsed(line[:at] + bytes([line[at] ^ bit]) + line[at + 1 :]) for at in range(len(line)) for bit in (1, 32)
    ]
    assert not [each for each in changed if each is not None and each != right]
    assert not [parsed(line[:at]) for at in range(len(line) - 1) if parsed(line[:at])]


def test_lines_that_are_none_are_left_aside(journal):
    with journal.path.open("ab") as file:
        file.write(b"\n" + b"[" * 100_000 + b"\n[1]\nnull\n" + b"9" * 5000 + b"\n\xff\n")
    assert len(journal.read()) == len(TEXTS)
    assert journal.damaged == 5


def test_what_is_written_behind_a_half_line_is_whole(journal):
    journal.path.write_bytes(journal.path.read_bytes()[:-5])
    journal.append(Response("new", "text"))
    journal.close()
    found = journal.read()
    assert set(found) == {"0", "1", "2", "3", "4", "new"}
    assert journal.damaged == 1


def test_an_answer_counts_before_a_refusal_and_the_first_one_before_others(journal):
    for response in (Response("r", refused="no"), Response("r", "yes"), Response("r", "again")):
        journal.append(response)
    journal.close()
    assert journal.read()["r"][0].text == "yes"


def test_an_answer_that_is_delivered_twice_is_written_and_counted_once(tmp_path):
    journal, meter, there = Journal(tmp_path / "responses.jsonl"), Meter(Limits()), {}
    request = Request("1", "k", [], [])
    record(iter([(request, Response("1", "a", answer_tokens=5))] * 2), journal, there, meter)
    assert journal.path.read_bytes().count(b"\n") == 1
    assert (meter.new, meter.answer_tokens) == (1, 5)


def test_a_place_that_was_changed_is_no_response(journal):
    with pytest.raises(UserError, match="was changed at byte 3"):
        response_at(journal.path, Place(3, 20))


def test_a_journal_can_be_read_with_any_tool(journal):
    lines = [json.loads(line)["response"] for line in journal.path.read_text().splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    assert written(Response("1", "數")).isascii()


def test_whatever_a_text_depends_on_changes_the_id():
    parts = {"set": "a", "key": "k", "turns": [{"from": "human", "value": "x"}], "sampling": {"seed": 0}, "sample": 0}
    ids = {request_id(**parts)}
    for name in parts:
        ids.add(request_id(**{**parts, name: [parts[name]]}))
    assert len(ids) == len(parts) + 1
    assert request_id(**parts) == request_id(**dict(reversed(parts.items())))
