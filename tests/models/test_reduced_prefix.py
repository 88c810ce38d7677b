"""Packed prompts whose visual tokens are reduced give what padded ones give in the plain model."""

import pytest
import torch

from fcot.batch import Segments
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.models.prefix import positions_of, unpack
from fcot.models.reduced_pages import whole_prompts
from fcot.models.reduced_prefix import PackedPass
from fcot.models.sampling import Sampling
from fcot.models.student_teacher import StudentTeacher
from fcot.models.transformers_api import CACHE
from fcot.reduce import REDUCERS, InsideReducer, reduced
from fcot.tiny import write_architecture

SAMPLES = [("What?", "a", 2), ("Who??", "b", 1), ("How much is it?", "x", 5), ("2 + 2?", "4", 0), ("What!", "a", 2)]
INSIDE = {
    "dart": {"layer": 1},
    "fastv": {"layer": 1},
    "fastv_random": {"layer": 1},
    "pyramiddrop": {},
    "sparsevlm": {},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from transformers import AutoConfig, InternVLForConditionalGeneration

    folder = write_architecture(
        tmp_path_factory.mktemp("reduced") / "tiny", tile_size=56, width=32, vision_layers=1, text_layers=6, heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder))
        for parameter in model.model.language_model.layers.parameters():
            parameter.data *= 6 if parameter.ndim > 1 else 1  # or hardly any answer would depend on the page
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["teacher", "positions kept"])
def reader(request, checkpoint):
    given = {} if request.param == "teacher" else {"compressor": "conv", "ratio": 2}
    return StudentTeacher(checkpoint, **given, keep_positions=request.param == "positions kept").eval()


def test_every_reducer_inside_is_listed_here():
    assert {name for name, kind in REDUCERS.items() if issubclass(kind, InsideReducer)} == set(INSIDE)


@pytest.mark.parametrize("positions", ["original", "renumbered"])
@pytest.mark.parametrize("name", INSIDE)
def test_packed_and_padded_prompts_are_reduced_alike(reader, checkpoint, make_batch, name, positions):
    reducer = REDUCERS[name](**INSIDE[name], keep=0.3, positions=positions)
    ratio = getattr(reader.student.config, "ratio", 1)
    batch = make_batch(*SAMPLES, ratio=ratio)
    packed = reader.answer(batch, "student", None, reducer, max_new_tokens=5)
    alone = [
        reader.answer(make_batch(each, ratio=ratio), "student", None, reducer, max_new_tokens=5) for each in SAMPLES
    ]
    assert [answer for (answer,) in alone] == packed
    sequences, folder = batch.sequences["student"], ModelFolder(checkpoint)
    mean, std = (torch.tensor(folder.preprocessing[key]) for key in ("image_mean", "image_std"))
    ids, mask = sequences.prompt_ids, sequences.prompt_mask
    where = reader.positions("student", ids, mask, batch.tile_tokens["student"])
    given = {} if where is None else {"position_ids": where}
    with reduced(reader.student, reducer), torch.no_grad():
        new = reader.student.generate(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=normalize(batch.tiles, mean, std),
            max_new_tokens=5,
            do_sample=False,
            **given,
        )[:, ids.shape[1] :]
    assert [row.tolist()[: len(answer)] for row, answer in zip(new, packed, strict=True)] == packed
    assert len({*map(tuple, packed)}) > 3
    assert packed != reader.answer(batch, "student", max_new_tokens=5)


def test_several_answers_and_beams_are_each_the_same_alone(reader, make_batch):
    reducer, ratio = REDUCERS["fastv"](layer=1, keep=0.3), getattr(reader.student.config, "ratio", 1)
    for options in ({"sampling": Sampling(1.0, seed=3, num_answers=2)}, {"num_beams": 2}):
        batch = make_batch(*SAMPLES, ratio=ratio)
        together = reader.answer(batch, "student", reducer=reducer, max_new_tokens=4, **options)
        alone = [
            answer
            for each in SAMPLES
            for answer in reader.answer(
                make_batch(each, ratio=ratio), "student", reducer=reducer, max_new_tokens=4, **options
            )
        ]
        assert alone == together


def test_a_page_of_several_questions_is_looked_at_once(reader, make_batch):
    ratio, tiles = getattr(reader.student.config, "ratio", 1), []
    batch = make_batch(("What?", "a", 2), ("What!", "b", 2), ratio=ratio)
    batch.tiles[2:] = batch.tiles[:2]
    with reader.student.model.vision_tower.register_forward_hook(lambda _, args, out: tiles.append(len(args[0]))):
        reader.answer(batch, "student", reducer=REDUCERS["fastv"](layer=1), max_new_tokens=2)
    assert tiles == [2]


@pytest.mark.parametrize("positions", ["original", "renumbered"])
@pytest.mark.parametrize("name", INSIDE)
def test_the_cache_of_packed_prompts_is_that_of_padded_ones(reader, checkpoint, make_batch, name, positions):
    reducer = REDUCERS[name](**INSIDE[name], keep=0.3, positions=positions)
    batch = make_batch(*SAMPLES, ratio=getattr(reader.student.config, "ratio", 1))
    sequences, counts = batch.sequences["student"], batch.tile_tokens["student"]
    ids, mask = sequences.prompt_ids, sequences.prompt_mask
    prompts = [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
    read = whole_prompts(reader, batch, "student", range(len(prompts)), prompts)
    lengths = tuple(map(len, prompts))
    flat = torch.tensor([token for prompt in prompts for token in prompt])
    visual, segments = flat == reader.student.config.image_token_id, Segments(lengths, (0,) * len(lengths))
    language = reader.student.model.language_model
    with torch.no_grad():
        packed, left = PackedPass(reducer, language, segments, visual, flat).run(
            read.embeddings(reader.student), torch.cat(read.positions)[None]
        )
    unpack(packed, left, range(len(prompts)))
    folder = ModelFolder(checkpoint)
    mean, std = (torch.tensor(folder.preprocessing[key]) for key in ("image_mean", "image_std"))
    where = positions_of(reader, "student", ids, mask, counts)
    with reduced(reader.student, reducer), torch.no_grad():
        padded = reader.student(
            input_ids=ids,
            attention_mask=mask,
            position_ids=where,
            pixel_values=normalize(batch.tiles, mean, std),
            use_cache=True,
        )
    padded = getattr(padded, CACHE)
    for layer, (ours, theirs) in enumerate(zip(packed.layers, padded.layers, strict=True)):
        for row, length in enumerate(each[layer] for each in zip(*left, strict=True)):
            for states in ("keys", "values"):
                a, b = (getattr(each, states)[row, :, -length:] for each in (ours, theirs))
                assert (a - b).abs().max() <= 1e-5 * b.abs().max(), (layer, row, states)
