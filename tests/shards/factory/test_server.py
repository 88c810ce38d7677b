"""The server that the other tests ask: it must give what the model in this process gives."""

from pathlib import Path

from shards.factory.generators.in_process import InProcess
from shards.factory.job import Job
from shards.factory.kinds import Cot
from shards.factory.questions import questions
from shards.format.shard_set import ShardSet
from tests.shards.factory.conftest import HOW, SAMPLING


def test_it_gives_the_texts_that_the_model_draws_in_this_process(asked, untroubled, tmp_path):
    source, generator = ShardSet(asked), InProcess(Path("fcot/tiny/teacher"), device="cpu")
    job = Job(source, tmp_path / "set", Cot(**HOW), SAMPLING, "endpoint tiny")
    requests = [each for question in questions(source, 0) for each in job.requests(question)][:6]
    there = {each["id"]: each["text"] for each in untroubled.responses}
    assert {request.id: response.text for request, response in generator.answers(iter(requests))} == {
        each.id: there[each.id] for each in requests
    }
    assert len({each.seed for each in requests}) == 6
