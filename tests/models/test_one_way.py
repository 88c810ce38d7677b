"""Drawn answers share their page, and each is the same text alone, in a batch and in another order."""

import pytest
import torch

from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.models.sampling import Sampling
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.serve.dialogue import Dialogue

SAMPLES = [("What?", "a", 2), ("Who??", "b", 2), ("How much is it?", "x", 1), ("2 + 2?", "4", 0)]


@pytest.fixture(scope="module")
def pair(tiny_checkpoint):
    return StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2).eval()


def drawn(pair, batch, number=3, **options):
    options = {"temperature": 1.0, "top_p": 0.9, "seed": 5, **options}
    new = pair.answer(batch, "student", Sampling(num_answers=number, **options), max_new_tokens=6)
    return [new[i : i + number] for i in range(0, len(new), number)]


def test_a_drawn_answer_is_the_same_alone_batched_and_in_another_order(pair, make_batch):
    together = drawn(pair, make_batch(*SAMPLES))
    assert [drawn(pair, make_batch(sample))[0] for sample in SAMPLES] == together
    assert drawn(pair, make_batch(*SAMPLES[::-1]))[::-1] == together
    assert drawn(pair, make_batch(*SAMPLES), 1) == [answers[:1] for answers in together]
    assert all(len({*map(tuple, answers)}) == 3 for answers in together)
    assert drawn(pair, make_batch(*SAMPLES), seed=6) != together


def test_answers_to_a_page_share_its_look(pair, make_batch):
    tiles = []
    tower = pair.student.model.vision_tower
    with tower.register_forward_hook(lambda _, args, out: tiles.append(len(args[0]))):
        drawn(pair, make_batch(SAMPLES[0]), 4)
    assert tiles == [2]


def test_a_tiny_share_of_the_probability_is_the_likeliest_token(pair, make_batch):
    batch = make_batch(*SAMPLES)
    greedy = pair.answer(batch, "student", max_new_tokens=6)
    assert [answers[0] for answers in drawn(pair, batch, 1, top_p=1e-6)] == greedy


@pytest.fixture(scope="module")
def saved(pair, tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_way")
    save_student(pair.student, folder, tiny_checkpoint)
    return ModelFolder(folder)


@pytest.mark.parametrize("sample", SAMPLES, ids=[question for question, *_ in SAMPLES])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, 0.9, seed=5)], ids=["greedy", "drawn"])
def test_evaluation_and_chat_say_the_same(pair, saved, make_batch, sample, sampling):
    batch = make_batch(sample)
    (ids,) = pair.answer(batch, "student", sampling, max_new_tokens=6)
    dialogue = Dialogue(saved, batch.tiles.split(1) if len(batch.tiles) else [])
    expected = saved.tokenizer.decode(ids, skip_special_tokens=True)
    assert dialogue.ask(sample[0], max_new_tokens=6, sampling=sampling) == expected


@pytest.mark.parametrize("beams", [1, 2])
def test_evaluation_and_generate_of_the_saved_folder_say_the_same(pair, saved, make_batch, beams):
    batch = make_batch(SAMPLES[0])
    (ids,) = pair.answer(batch, "student", max_new_tokens=6, num_beams=beams)
    prompt = batch.sequences["student"].prompt_ids
    mean, std = (torch.tensor(saved.preprocessing[key]) for key in ("image_mean", "image_std"))
    new = (
        load_student(saved.path)
        .eval()
        .generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            pixel_values=normalize(batch.tiles, mean, std),
            max_new_tokens=6,
            num_beams=beams,
            do_sample=False,
        )
    )
    text = saved.tokenizer.decode(new[0, prompt.shape[1] :], skip_special_tokens=True)
    assert saved.tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"num_answers": 2}, {"num_answers": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Sampling(**wrong)
