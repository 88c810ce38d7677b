"""Pages of any length, and questions that share one, are answered as one at a time, and nothing is read twice."""

from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch

from fcot.models.sampling import Sampling
from fcot.models.student_teacher import StudentTeacher

# the fixture's pages are noise seeded by the length of the question: these are three pages and a sample without any
ON_ONE_PAGE = [("What?", "a", 2), ("Who??", "b", 2), ("Why??", "c", 2)]
OTHERS = [("How much is it?", "x", 1), ("2 + 2?", "4", 0), ("And how long?", "y", 3)]


@pytest.fixture(scope="module", params=[False, True], ids=["counted anew", "kept positions"])
def pair(request, tiny_checkpoint):
    pair = StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2, more_ratios=[4], keep_positions=request.param)
    return pair.eval()


@pytest.mark.parametrize("branch", ["teacher", "student", "student-r4"])
@pytest.mark.parametrize("samples", [ON_ONE_PAGE, [*ON_ONE_PAGE[:1], *OTHERS, *ON_ONE_PAGE[1:]]], ids=["one", "mixed"])
def test_answers_are_those_of_one_question_at_a_time(pair, make_batch, branch, samples):
    together = pair.answer(make_batch(*samples, more=(4,)), branch, max_new_tokens=8)
    alone = [pair.answer(make_batch(sample, more=(4,)), branch, max_new_tokens=8)[0] for sample in samples]
    assert together == alone
    assert all(together)


@contextmanager
def watched(pair):
    """Tiles that the vision tower sees and rows that the language model reads, call by call."""
    tiles, read = [], []
    handles = [
        pair.student.model.vision_tower.register_forward_pre_hook(lambda _, args: tiles.append(len(args[0]))),
        pair.student.model.language_model.layers[0].register_forward_pre_hook(
            lambda _, args: read.append(tuple(args[0].shape[:2]))
        ),
    ]
    try:
        yield tiles, read
    finally:
        for handle in handles:
            handle.remove()


def test_a_page_is_looked_at_once_and_its_prompt_is_read_once(pair, make_batch):
    batch = make_batch(*ON_ONE_PAGE)
    with watched(pair) as (tiles, read):
        pair.answer(batch, "student", max_new_tokens=2)
    assert tiles == [2]
    (pages, prefix), (questions, rest), *_ = read
    assert (pages, questions) == (1, 3)
    assert prefix + rest == batch.sequences["student"].prompt_ids.shape[1]


def test_no_padding_of_prompts_of_different_lengths_is_read(pair, make_batch):
    batch = make_batch(*OTHERS)
    with watched(pair) as (_, read):
        pair.answer(batch, "student", max_new_tokens=2, min_new_tokens=2)
    lengths = batch.sequences["student"].prompt_mask.sum(1)
    assert len(lengths.unique()) == 3
    assert read == [(1, int(lengths.sum()) - 3), (3, 1), (3, 1)]


def test_another_page_or_another_start_is_not_shared(pair, make_batch):
    batch = make_batch(*ON_ONE_PAGE[:2])
    other = batch.tiles.clone()
    other[2, 0, 0, 0] += 1
    ids = batch.sequences["student"].prompt_ids.clone()
    ids[1, (ids[1] != 0).nonzero()[1]] += 1
    with watched(pair) as (seen, _):
        pair.answer(batch, "student", max_new_tokens=1)
        batch.tiles.copy_(other)
        pair.answer(batch, "student", max_new_tokens=1)
        batch.tiles.copy_(torch.cat([other[:2], other[:2]]))
        batch.sequences["student"].prompt_ids.copy_(ids)
        pair.answer(batch, "student", max_new_tokens=1)
    assert seen == [2, 4, 4]


@pytest.mark.gpu
@pytest.mark.parametrize("branch", ["teacher", "student", "student-r4"])
def test_answers_on_a_device_are_those_of_a_cpu_together_and_alone(pair, make_batch, device, branch):
    samples, there = [*ON_ONE_PAGE[:1], *OTHERS, *ON_ONE_PAGE[1:]], deepcopy(pair).to(device)
    batch = make_batch(*samples, more=(4,))
    sampling = Sampling(temperature=1.0, top_p=0.9, num_answers=2)
    for drawn in (None, sampling):
        expected = pair.answer(batch, branch, drawn, max_new_tokens=8)
        assert there.answer(batch.to(device), branch, drawn, max_new_tokens=8) == expected
    alone = [make_batch(sample, more=(4,)).to(device) for sample in samples]
    together = there.answer(batch.to(device), branch, max_new_tokens=8)
    assert [there.answer(each, branch, max_new_tokens=8)[0] for each in alone] == together


@pytest.mark.gpu
def test_a_students_own_generate_on_a_device_gives_the_tokens_of_a_cpu(pair, make_batch, device):
    sequences = make_batch(*ON_ONE_PAGE).sequences["student"]
    draw = torch.Generator().manual_seed(0)
    given = {
        "input_ids": sequences.prompt_ids,
        "attention_mask": sequences.prompt_mask,
        "pixel_values": torch.randn(6, 3, 56, 56, generator=draw),
    }
    expected = pair.student.generate(**given, max_new_tokens=8, do_sample=False)
    there = deepcopy(pair.student).to(device)
    found = there.generate(**{name: each.to(device) for name, each in given.items()}, max_new_tokens=8, do_sample=False)
    assert found.cpu().equal(expected)
