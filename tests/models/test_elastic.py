"""An elastic student reads each tile at a ratio of its own: at ratio 1 as the teacher, in any batch as alone."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, InternVLForConditionalGeneration

from fcot.batch import PageLayout
from fcot.compress import COMPRESSORS
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.models.token_counts import TokenCounts
from fcot.tiny import write_architecture
from shards.feed.collate import collate
from shards.feed.decode import Prepared

# question, answer, visual tokens of each tile, tiles of each image; a tile has 16, 8 or 4
SAMPLES = [
    ("What?", "a", [16, 4], [2]),
    ("Who??", "bcd", [8], [1]),
    ("How much is it?", "x", [4, 8, 16, 8], [3, 1]),
    ("2 + 2?", "4", [], []),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Tiles of 112 pixels, 16 visual tokens each."""
    folder = write_architecture(
        tmp_path_factory.mktemp("elastic") / "tiny", tile_size=112, width=32, vision_layers=2, text_layers=2, heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def elastic(teacher, compressor="conv", **settings):
    """Student and teacher, all that learns moved from where it starts."""
    torch.manual_seed(1)
    spec = StudentSpec(compressor, 2, ratios=(2, 4), **settings)
    pair = StudentTeacher(teacher, spec).eval()
    pair.train_parts("projector")
    with torch.no_grad():
        for _, parameter in pair.trainable():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return pair


@pytest.fixture(
    scope="module",
    params=[
        {"keep_positions": False},
        {"keep_positions": True},
        {"keep_positions": True, "compressor": "token_packer", "options": {"levels": [1]}},
        {"placement": "after"},
        {"placement": "instead", "compressor": "unshuffle"},
    ],
    ids=["counted up", "positions kept", "levels", "after", "instead"],
)
def pair(request, teacher):
    return elastic(teacher, **request.param)


def make(teacher, *samples, token_budget=None):
    encoder = ModelFolder(teacher).encoder()
    prepared, asked = [], []
    for question, answer, counts, images in samples:
        talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        pixels = np.random.default_rng(len(question)).integers(0, 256, (len(counts), 3, 112, 112), dtype=np.uint8)
        asked.append(torch.tensor(counts, dtype=torch.int64))
        prepared.append(
            Prepared(
                key=question,
                task="text",
                question=question,
                references=[answer],
                tiles=torch.from_numpy(pixels),
                encoded=encoder.encode(talk, images),
                prompt=encoder.encode(talk, images, prompt_only=True),
            )
        )
    told = iter(asked)
    layout = PageLayout(encoder, 112, 6, {"teacher": 16, "student": lambda tiles: next(told)})
    return collate(prepared, layout, token_budget)


@torch.no_grad()
def test_at_ratio_1_it_is_the_teacher_to_the_bit(pair, teacher):
    whole = [(*sample[:2], [16] * len(sample[2]), sample[3]) for sample in SAMPLES]
    for batch in (make(teacher, *whole), make(teacher, *whole, token_budget=60)):
        assert torch.equal(pair.student_rows(batch), pair.teacher_rows(batch))
    native = InternVLForConditionalGeneration.from_pretrained(teacher).eval()
    batch = make(teacher, whole[0])
    ids, pixels = batch.sequences["student"].input_ids, normalize(batch.tiles, pair.mean, pair.std)
    mine = pair.student(input_ids=ids, pixel_values=pixels, tile_tokens=batch.tile_tokens["student"])
    assert torch.equal(mine.logits, native(input_ids=ids, pixel_values=pixels).logits)


@torch.no_grad()
def test_at_ratio_1_it_is_the_teacher_in_mixed_precision_too(teacher):
    mine = elastic(teacher)
    mine.keep_frozen_in(torch.bfloat16)
    batch = make(teacher, *((*sample[:2], [16] * len(sample[2]), sample[3]) for sample in SAMPLES))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mine.student_rows(batch), mine.teacher_rows(batch))


@pytest.mark.parametrize("compressor", ["conv", "gated_pool"])  # whose windows at ratio 4 are 1x4 and 2x2
@torch.no_grad()
def test_at_other_ratios_it_is_the_student_of_that_ratio(teacher, compressor):
    mine = elastic(teacher, compressor, keep_positions=True)
    projector = mine.student.model.multi_modal_projector
    for ratio, count in ((2, 8), (4, 4)):
        alone = StudentTeacher(teacher, compressor=compressor, ratio=ratio, keep_positions=True).eval()
        own = alone.student.model.multi_modal_projector
        own.load_state_dict(projector.state_dict(), strict=False)
        own.compressor.load_state_dict(projector.compressor.part(ratio).state_dict())
        batch = make(teacher, *((*sample[:2], [count] * len(sample[2]), sample[3]) for sample in SAMPLES))
        assert torch.allclose(mine.student_rows(batch), alone.student_rows(batch), atol=1e-6)


@pytest.mark.parametrize("name", [each for each in COMPRESSORS if each not in ("identity", "llama_vid")])
def test_each_compressor_reads_a_tile_at_any_ratio_as_it_does_alone_and_learns_from_no_tile(teacher, name):
    place = COMPRESSORS[name].places[0]
    mine = elastic(teacher, name, placement=place)
    projector = mine.student.model.multi_modal_projector
    generator = torch.Generator().manual_seed(0)
    features = mine.features(torch.randint(0, 256, (3, 3, 112, 112), dtype=torch.uint8, generator=generator))
    counts = [4, 16, 8]
    for tile, (ratio, rows) in enumerate(zip((4, 1, 2), projector(features, counts).split(counts), strict=True)):
        own = mine.teacher_projector
        if ratio > 1:
            own = StudentTeacher(teacher, StudentSpec(name, ratio, place)).eval().student.model.multi_modal_projector
            own.load_state_dict(projector.state_dict(), strict=False)
            own.compressor.load_state_dict(projector.compressor.part(ratio).state_dict())
        torch.testing.assert_close(rows, own(features[tile : tile + 1])[0])
    projector(features[:0], []).sum().backward()
    assert all(parameter.grad is not None for _, parameter in mine.trainable())


@torch.no_grad()
def test_rows_are_the_same_alone_batched_and_packed(pair, teacher):
    alone = torch.cat([pair.student_rows(make(teacher, sample)) for sample in SAMPLES])
    assert torch.allclose(pair.student_rows(make(teacher, *SAMPLES)), alone, atol=1e-5)
    packed = make(teacher, *SAMPLES, token_budget=90)
    assert len(packed.sequences["student"].packs) > 1
    assert torch.allclose(pair.student_rows(packed), alone, atol=1e-5)


def test_every_ratio_has_gradients_when_no_tile_has_it(teacher):
    mine = elastic(teacher)
    for sample in (SAMPLES[1], SAMPLES[3]):
        mine.zero_grad()
        mine.student_rows(make(teacher, sample)).sum().backward()
        assert all(parameter.grad is not None for _, parameter in mine.trainable())
    assert not any(parameter.requires_grad for parameter in mine.teacher_projector.parameters())


@pytest.fixture(scope="module")
def saved(pair, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_student(pair.student, folder, teacher)
    return ModelFolder(folder)


@torch.no_grad()
def test_a_saved_student_is_the_same(pair, saved, teacher):
    assert json.loads((saved.path / "config.json").read_text())["ratios"] == [2, 4]
    alone = StudentTeacher(saved.path).eval()
    batch = make(teacher, *SAMPLES)
    assert torch.equal(alone.student_rows(batch), pair.student_rows(batch))
    assert torch.equal(alone.student_rows(batch, branch="student"), alone.student_rows(batch))


@pytest.mark.parametrize("beams", [1, 2])
def test_answers_are_the_same_alone_batched_and_by_transformers(pair, saved, teacher, beams):
    model = load_student(saved.path).eval()
    together = pair.answer(make(teacher, *SAMPLES), "student", max_new_tokens=6, num_beams=beams)
    for sample, expected in zip(SAMPLES, together, strict=True):
        batch = make(teacher, sample)
        assert pair.answer(batch, "student", max_new_tokens=6, num_beams=beams) == [expected]
        prompt, counts = batch.sequences["student"].prompt_ids, batch.tile_tokens["student"]
        pixels = {"pixel_values": normalize(batch.tiles, pair.mean, pair.std), "tile_tokens": counts}
        given = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), **(pixels if len(counts) else {})}
        new = model.generate(**given, max_new_tokens=6, num_beams=beams)[0, prompt.shape[1] :].tolist()
        assert saved.tokenizer.decode(new, skip_special_tokens=True) == saved.tokenizer.decode(expected)


@torch.no_grad()
def test_tiles_for_which_nothing_is_asked_have_the_ratio_of_the_configuration(saved):
    model = load_student(saved.path).eval()
    pixels, ids = torch.zeros(2, 3, 112, 112), torch.tensor([[5, *[model.config.image_token_id] * 16, 6]])
    told = model(input_ids=ids, pixel_values=pixels, tile_tokens=torch.tensor([8, 8])).logits
    assert torch.equal(model(input_ids=ids, pixel_values=pixels).logits, told)
    assert TokenCounts(model.config)(pixels).tolist() == [8, 8] and model.config.image_seq_length == 8


@torch.no_grad()
def test_a_number_that_no_ratio_gives_is_refused(saved):
    model = load_student(saved.path).eval()
    ids = torch.tensor([[model.config.image_token_id] * 5])
    with pytest.raises(UserError, match="visual_tokens is 5"):
        model(input_ids=ids, pixel_values=torch.zeros(1, 3, 112, 112), tile_tokens=torch.tensor([5]))


@pytest.mark.parametrize(
    ("compressor", "ratios", "said"), [("conv", (1, 2), "ratio 1 is always"), ("llama_vid", (2, 4), "reads the quest")]
)
def test_ratios_and_compressors_that_cannot_be_elastic_are_refused(teacher, compressor, ratios, said):
    with pytest.raises(UserError, match=said):
        StudentTeacher(teacher, StudentSpec(compressor, 2, ratios=ratios))
