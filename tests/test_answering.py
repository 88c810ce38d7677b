"""Questions on one page share its vision pass and its part of the cache, and are answered as one at a time."""

import pytest
import torch

from fcot.pair import StudentTeacher

# the fixture's pages are noise seeded by the length of the question: these are three pages and a sample without any
ON_ONE_PAGE = [("What?", "a", 2), ("Who??", "b", 2), ("Why??", "c", 2)]
OTHERS = [("How much is it?", "x", 1), ("2 + 2?", "4", 0), ("And how long?", "y", 3)]


@pytest.fixture(scope="module", params=[False, True], ids=["counted anew", "kept positions"])
def pair(request, tiny_checkpoint):
    pair = StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2, more_ratios=[4], keep_positions=request.param)
    return pair.eval()


@pytest.mark.parametrize("side", ["teacher", "student", "student-r4"])
@pytest.mark.parametrize("samples", [ON_ONE_PAGE, [*ON_ONE_PAGE[:1], *OTHERS, *ON_ONE_PAGE[1:]]], ids=["one", "mixed"])
def test_answers_are_those_of_one_question_at_a_time(pair, make_batch, side, samples):
    together = pair.answer(make_batch(*samples, more=(4,)), side, max_new_tokens=8)
    alone = [pair.answer(make_batch(sample, more=(4,)), side, max_new_tokens=8)[0] for sample in samples]
    assert together == alone
    assert all(together)


def test_a_page_is_looked_at_once_and_its_prompt_is_read_once(pair, make_batch):
    tiles, read = [], []
    handles = [
        pair.student.model.vision_tower.register_forward_pre_hook(lambda _, args: tiles.append(len(args[0]))),
        pair.student.model.language_model.register_forward_pre_hook(
            lambda _, args, kwargs: read.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
        ),
    ]
    batch = make_batch(*ON_ONE_PAGE)
    try:
        pair.answer(batch, "student", max_new_tokens=2)
    finally:
        for handle in handles:
            handle.remove()
    assert tiles == [2]
    (pages, prefix), (questions, rest), *_ = read
    assert (pages, questions) == (1, 3)
    assert prefix + rest == batch.sequences["student"].prompt_ids.shape[1]


def test_another_page_or_another_start_is_not_shared(pair, make_batch):
    batch, seen = make_batch(*ON_ONE_PAGE[:2]), []
    handle = pair.student.model.vision_tower.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    other = batch.tiles.clone()
    other[2, 0, 0, 0] += 1
    ids = batch.sequences["student"].prompt_ids.clone()
    ids[1, (ids[1] != 0).nonzero()[1]] += 1
    try:
        pair.answer(batch, "student", max_new_tokens=1)
        batch.tiles.copy_(other)
        pair.answer(batch, "student", max_new_tokens=1)
        batch.tiles.copy_(torch.cat([other[:2], other[:2]]))
        batch.sequences["student"].prompt_ids.copy_(ids)
        pair.answer(batch, "student", max_new_tokens=1)
    finally:
        handle.remove()
    assert seen == [2, 4, 4]
