"""Servers that fail: what they say in the end is what a server says that never fails."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import monotonic

import openai
import pytest

from fcot.errors import UserError
from shards.factory.generators.address import Address
from shards.factory.generators.endpoint import Endpoints
from shards.factory.generators.faults import RefusedError, TransientError, retry_after
from shards.factory.requests import Request, Sampling

KEY = "sk-not-for-the-eyes-of-others"


def test_faults_of_every_class_change_nothing_and_are_counted(make, served, untroubled):
    plan = "500@11,429s1@17,cut@13,truncated@19,html@23,error200@29,nochoices@31,null@37,parts@41,reset@43,twice@2"
    made = make("many", plan)
    assert made.bytes == untroubled.bytes
    assert sorted(made.seeds) == sorted(untroubled.seeds) == sorted(served.answered("many"))
    failed = [line["fault"] for line in served.calls("many") if line["fault"] not in ("", "twice")]
    classes = {"500": "status 500", "429s1": "status 429", "cut": "connection", "reset": "connection"}
    classes |= {"truncated": "no JSON", "html": "no JSON"}
    expected = [classes.get(fault, "no choices") for fault in failed]
    assert {"status 500", "status 429", "connection", "no JSON", "no choices"} == set(expected)
    assert made.last_run["faults"] == {kind: expected.count(kind) for kind in set(expected)}


def test_what_hangs_or_drips_is_asked_again(make, served, untroubled):
    made = make("slow", "hang@20,drip@27", timeout=2.0)
    assert made.bytes == untroubled.bytes
    late = [line for line in served.calls("slow") if line["fault"] in ("hang", "drip")]
    assert made.last_run["faults"]["timeout"] >= len(late) >= 3


def test_a_server_that_asks_for_rest_is_left_alone_while_another_answers(make, served, untroubled):
    start = monotonic()
    made = make("rested", urls=[served.url("tired", "429s300@1"), served.url("awake")])
    assert monotonic() - start < 60
    assert made.bytes == untroubled.bytes
    assert 1 <= len(served.calls("tired")) <= 8  # those that were under way when it first asked for rest
    assert made.last_run["faults"] == {"status 429": len(served.calls("tired"))}
    assert sorted(made.seeds) == sorted(served.answered("awake"))


def test_pages_of_a_server_that_always_fails_are_asked_of_another(make, served, untroubled):
    made = make("halved", urls=[served.url("broken", "500@1"), served.url("sound")])
    assert made.bytes == untroubled.bytes
    assert len(served.calls("broken")) < len(made.seeds) / 2  # it rests after a few failures


@pytest.mark.parametrize(("rest", "patience", "rests"), [("300", 900.0, True), ("300", 100.0, False)])
def test_the_only_server_is_left_alone_as_long_as_it_asks_or_patience_lasts(monkeypatch, rest, patience, rests):
    now, asked = [1000.0], []

    async def ask(self, request):
        asked.append(now[0])
        if len(asked) == 1:
            error = TransientError("status 429", retry_after({"retry-after": rest}))
            self._failed(now[0], error)
            raise error
        return request.id

    async def sleep(seconds):
        now[0] += seconds

    for module in ("address", "endpoint"):
        monkeypatch.setattr(f"shards.factory.generators.{module}.monotonic", lambda: now[0])
    generator = Endpoints(["http://127.0.0.1:9/v1"], "tiny", concurrency=1, patience=patience)
    monkeypatch.setattr(Address, "ask", ask)
    monkeypatch.setattr("shards.factory.generators.endpoint.asyncio.sleep", sleep)
    try:
        answers = generator.answers(iter([Request("1", "page", [], [])]))
        if rests:
            assert next(answers)[1] == "1"
            assert asked == [1000.0, 1300.0]
        else:
            with pytest.raises(SystemExit) as exit_:
                next(answers)
            assert exit_.value.code == 75
            assert asked == [1000.0]
    finally:
        monkeypatch.undo()
        generator.close()


def test_retry_after_is_read_in_every_form():
    assert retry_after({"retry-after": "300"}) == 300
    assert retry_after({"retry-after-ms": "1500", "retry-after": "2"}) == 1.5
    date = datetime.now(UTC) + timedelta(seconds=120)
    assert 110 < (retry_after({"retry-after": format_datetime(date, usegmt=True)}) or 0) <= 120
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "-5"}) == 0
    assert retry_after({"retry-after": "soon"}) is retry_after({"retry-after": "nan"}) is retry_after({}) is None


@pytest.mark.parametrize(
    ("status", "said"),
    [("401", "Set OPENAI_API_KEY"), ("404", "Check the address, which as a rule ends in /v1, and the model's name")],
)
def test_what_nobody_will_ever_answer_stops_at_once(make, served, status, said):
    with pytest.raises(UserError, match=f"answers with status {status}: .*\n{said}"):
        make(f"never{status}", f"{status}@1")
    assert len(served.calls(f"never{status}")) <= 8


def test_a_redirect_is_not_followed_and_its_target_is_named(make, served):
    with pytest.raises(UserError, match=r"status 307, to http://127\.0\.0\.1:9/v1"):
        make("moved", "307@1")
    assert len(served.calls("moved")) <= 8


def test_a_refused_request_is_set_aside_with_its_reason_and_never_asked_again(make, served, untroubled):
    made = make("refusing", "400@7")
    refused = [each for each in made.responses if each["refused"]]
    calls = served.calls("refusing")
    assert len(refused) == made.last_run["faults"]["status 400"] == len(calls) // 7
    assert all("status 400: " in each["refused"] and "by plan" in each["refused"] for each in refused)
    rejected = [row["rejected"] for row in made.manifest["data_factory"]["statistics"]["tasks"].values()]
    assert sum(each.get("the generator refused", 0) for each in rejected) == len(refused)
    assert sorted(made.seeds) == sorted(untroubled.seeds)
    make("refusing", "400@7")
    assert served.calls("refusing") == calls


def test_a_server_that_refuses_everything_stops_the_run_and_is_asked_again_once_it_is_mended(make, served, untroubled):
    with pytest.raises(UserError, match=r"refuses the first 12 requests: status 400: .*by plan"):
        make("all", "400@1")
    assert len(served.calls("all")) == 12
    made = make("all", urls=[served.url("mended")])
    assert made.bytes == untroubled.bytes
    assert sorted(served.answered("mended")) == sorted(untroubled.seeds)


def test_patience_ends_with_code_75_and_the_run_goes_on_from_there(make, served, untroubled):
    with pytest.raises(SystemExit) as exit_:
        make("gone", urls=["http://127.0.0.1:9/v1"], patience=1.0)
    assert exit_.value.code == 75
    made = make("gone")
    assert made.bytes == untroubled.bytes


def test_the_budget_stops_the_run_and_what_was_sent_is_kept(make, served, untroubled):
    with pytest.raises(SystemExit) as exit_:
        make("poor", budget=3000)
    assert exit_.value.code == 75
    first = served.answered("poor")
    made = make("poor", "", budget=1_000_000)
    assert 12 < len(first) < len(made.seeds)
    assert sorted(served.answered("poor")) == sorted(made.seeds)  # nothing twice
    assert made.bytes == untroubled.bytes


def test_the_key_is_sent_and_stands_nowhere(make, served, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = make("keyed", "400@9")
    assert {line["key"] for line in served.calls("keyed")} == {f"Bearer {KEY}"}
    files = [path for folder in (made.output, made.folder) for path in folder.iterdir()]
    assert len(files) > 5
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_server_that_repeats_the_key_does_not_put_it_into_the_journal(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    address = Address("http://127.0.0.1:9/v1", "tiny", 1.0)
    found = openai.types.chat.ChatCompletion.construct(choices=[_choice(f"My key is {KEY}.")], usage=None, model=None)
    response = address._response(Request("1", "page", [], []), found, 0.0)
    assert response.text == "My key is OPENAI_API_KEY."
    assert (response.model, response.prompt_tokens) == ("tiny", 0)
    assert str(RefusedError("status 400", "no")) == "status 400: no"


def _choice(text):
    from openai.types.chat.chat_completion import ChatCompletionMessage, Choice

    return Choice.construct(message=ChatCompletionMessage.construct(content=text), finish_reason=None)


def test_text_that_is_no_text_does_not_stop_the_writing(make):
    made = make("surrogate", "surrogate@1")
    assert any(each["text"].startswith("?") for each in made.responses)
    assert made.manifest["samples"] > 0


def test_a_server_that_does_not_sample_is_noticed_before_the_run(make, served):
    with pytest.raises(UserError, match=r"the same text for 4 seeds at temperature 1.3, on each of 3 prompts"):
        make("greedy", "same@1")
    assert len(served.calls("greedy")) == 12 + 4


def test_a_model_that_is_certain_of_its_texts_does_sample(make, served, untroubled):
    made = make("certain", "certain@1")
    assert len(served.calls("certain")) == len(made.seeds) + 4  # one prompt again, at a higher temperature
    assert sorted(made.seeds) == sorted(untroubled.seeds)
    assert len({each["text"] for each in made.responses}) < len({each["text"] for each in untroubled.responses})


def test_tiles_of_pages_that_a_server_cuts_cannot_be_limited_here(make, served):
    with pytest.raises(UserError, match="max_tiles is 6"):
        make("tiles", sampling=Sampling(max_tiles=6))
    assert served.calls("tiles") == []
