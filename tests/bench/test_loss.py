"""The loss's memory at real size, where nothing need be computed to know it."""

import json

import pytest
import torch

from fcot.bench.loss import chunked, full_logits, loss, make_inputs, run

VOCABULARY, WIDTH = 92553, 64


def peak(rows, vocabulary=VOCABULARY, device="meta", **options):
    place = torch.device(device)
    inputs = make_inputs(rows, vocabulary, WIDTH, place, torch.float32)
    chunk_rows = options.get("chunk_rows", 256)
    ways = {"chunked": lambda given: chunked(given, chunk_rows, options.get("temperature", 1.0))}
    return run(ways, inputs, place, 1)["chunked"]["peak_bytes"]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_memory_stays_below_its_bound_whatever_the_number_of_rows(temperature):
    sizes = [peak(rows, temperature=temperature) for rows in (1024, 4096, 8192)]
    assert max(sizes) < 0.6e9
    assert max(sizes) < 1.1 * min(sizes)


def test_full_logits_need_many_times_as_much():
    inputs = make_inputs(4096, VOCABULARY, WIDTH, torch.device("meta"), torch.float32)
    full = run({"full": lambda given: full_logits(given, 1.0)}, inputs, torch.device("meta"), 1)["full"]
    assert full["peak_bytes"] > 10 * peak(4096)


def test_memory_is_the_same_when_it_is_computed():
    assert peak(40, 500, "cpu", chunk_rows=16) == peak(40, 500, "meta", chunk_rows=16)


def test_the_command_measures_both_and_they_agree(tmp_path):
    loss(rows=20, vocabulary=300, width=8, device="cpu", repeats=2, temperature=2.0, json=str(tmp_path / "loss.json"))
    found = json.loads((tmp_path / "loss.json").read_text())
    assert found["chunked"]["loss"] == pytest.approx(found["full"]["loss"], rel=1e-5)
    assert found["chunked"]["seconds"]["repeats"] == 2
    assert (found["device"], found["precision"]) == ("cpu", "fp32")


def test_both_are_timed_in_turn():
    done, inputs = [], make_inputs(4, 20, 8, torch.device("cpu"), torch.float32)

    def way(name):
        return lambda given: done.append(name) or full_logits(given, 1.0)

    run({"a": way("a"), "b": way("b")}, inputs, torch.device("cpu"), 2)
    assert done[:6] == ["a", "b"] * 3
