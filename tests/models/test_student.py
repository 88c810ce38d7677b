import json
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, DynamicCache, InternVLForConditionalGeneration
from transformers.utils.generic import find_labels

from fcot.compress import COMPRESSORS, Conv
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.models.student import CompressedInternVL
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher

PAGES = (("What?", "a short one", 2), ("Total", "a longer answer", 1))


def trained(checkpoint, compressor="conv", ratio=2, placement="before", keep_positions=False, **options):
    """A pair whose student no longer has its starting weights."""
    pair = StudentTeacher(
        checkpoint, compressor=compressor, ratio=ratio, placement=placement, keep_positions=keep_positions, **options
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pair.student.model.multi_modal_projector.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return pair


def inputs(pair, batch):
    """A batch as transformers takes it."""
    ids = batch.sequences["student"].input_ids
    return {
        "input_ids": ids,
        "pixel_values": normalize(batch.tiles, pair.mean, pair.std),
        "attention_mask": (ids != pair.student.config.text_config.pad_token_id).long(),
    }


def logits(model, pair, batch):
    with torch.no_grad():
        return model.eval()(**inputs(pair, batch)).logits


EVERYWHERE = [(name, place) for name, kind in sorted(COMPRESSORS.items()) for place in kind.places]


@pytest.mark.parametrize(("name", "placement"), EVERYWHERE)
def test_a_saved_student_loads_with_equal_logits(tiny_checkpoint, tmp_path, make_batch, name, placement):
    ratio = 1 if name == "identity" else 2
    pair, batch = trained(tiny_checkpoint, name, ratio, placement), make_batch(*PAGES, ratio=ratio)
    expected = logits(pair.student, pair, batch)
    save_student(pair.student, tmp_path / "ours", tiny_checkpoint)
    pair.student.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        loaded = CompressedInternVL.from_pretrained(tmp_path / folder)
        for key, tensor in pair.student.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor), f"{key} of {folder}"
        # on some processors a matrix product is rounded otherwise where its operands lie otherwise in memory
        torch.testing.assert_close(logits(loaded, pair, batch), expected, rtol=1e-5, atol=1e-5)
        assert (loaded.config.compressor, loaded.config.ratio, loaded.config.placement) == (name, ratio, placement)


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("ratio", [2, 4])
def test_get_image_features_is_the_containers_path(tiny_checkpoint, make_batch, placement, ratio):
    pair, batch = trained(tiny_checkpoint, "conv", ratio, placement), make_batch(*PAGES, ratio=ratio)
    with torch.no_grad():
        found = pair.student.get_image_features(inputs(pair, batch)["pixel_values"], return_dict=True).pooler_output
        expected = pair.student.model.multi_modal_projector(pair.features(batch.tiles))
    assert found.shape == (3, 4 // ratio, 32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("keep_positions", [False, True])
def test_the_students_own_forward_gives_the_containers_rows(tiny_checkpoint, make_batch, keep_positions):
    pair, batch = trained(tiny_checkpoint, keep_positions=keep_positions), make_batch(*PAGES)
    labels = batch.sequences["student"].labels[:, 1:]
    expected = logits(pair.student, pair, batch)[:, :-1][labels != -100]
    torch.testing.assert_close(pair.student_rows(batch) @ pair.head_weight.T, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rule", "offset"), [("step", 0), ("window", 0.5)])
def test_kept_positions_are_the_teachers_for_every_token_but_images(tiny_checkpoint, make_batch, rule, offset):
    pair, batch = trained(tiny_checkpoint, keep_positions=True, position_rule=rule), make_batch(*PAGES)
    image_id = pair.student.config.image_token_id
    for name in ("input_ids", "prompt_ids"):
        student, teacher = (getattr(batch.sequences[branch], name) for branch in ("student", "teacher"))
        padding = pair.student.config.text_config.pad_token_id
        kept = pair.student.positions(student, (student != padding).long())
        for row, ids in enumerate(teacher):
            counted = (ids != padding).long().cumsum(0) - 1
            text = (student[row] != image_id) & (student[row] != padding)
            assert kept[row][text].tolist() == counted[(ids != image_id) & (ids != padding)].tolist()
            places = counted[ids == image_id]
            assert kept[row][student[row] == image_id].tolist() == (places[::2] + offset).tolist()


def test_kept_positions_change_what_the_student_sees_and_are_saved(tiny_checkpoint, tmp_path, make_batch):
    kept, batch = trained(tiny_checkpoint, keep_positions=True), make_batch(*PAGES)
    counted = trained(tiny_checkpoint)
    assert not torch.allclose(kept.student_rows(batch), counted.student_rows(batch), atol=1e-4)
    assert torch.equal(kept.teacher_rows(batch), counted.teacher_rows(batch))
    save_student(kept.student, tmp_path / "student", tiny_checkpoint)
    loaded = load_student(tmp_path / "student")
    assert torch.equal(logits(loaded, kept, batch), logits(kept.student, kept, batch))
    without_mask = {name: value for name, value in inputs(kept, make_batch(PAGES[0])).items() if "mask" not in name}
    with torch.no_grad():
        alone, masked = (loaded(**given).logits for given in (without_mask, inputs(kept, make_batch(PAGES[0]))))
    torch.testing.assert_close(alone, masked)


def test_a_folder_without_a_rule_for_positions_keeps_the_one_it_was_trained_with(tiny_checkpoint, tmp_path, make_batch):
    new, batch = trained(tiny_checkpoint, keep_positions=True), make_batch(*PAGES)
    save_student(new.student, tmp_path / "student", tiny_checkpoint)
    file = tmp_path / "student" / "config.json"
    settings = json.loads(file.read_text())
    assert settings.pop("position_rule") == "window"
    file.write_text(json.dumps(settings))
    old = load_student(tmp_path / "student")
    by_step = trained(tiny_checkpoint, keep_positions=True, position_rule="step")
    assert torch.equal(logits(old, new, batch), logits(by_step.student, by_step, batch))
    assert not torch.allclose(logits(old, new, batch), logits(new.student, new, batch), atol=1e-4)
    file.write_text(json.dumps(settings | {"position_rule": "middle"}))
    with pytest.raises(UserError, match=r"position_rule is 'middle'\. Use 'window'"):
        logits(load_student(tmp_path / "student"), new, batch)


def test_pages_of_different_lengths_are_answered_together_as_alone(tiny_checkpoint, make_batch):
    pair = trained(tiny_checkpoint, keep_positions=True)
    for branch in ("student", "teacher"):
        together = pair.answer(make_batch(*PAGES), branch, max_new_tokens=6)
        assert together == [pair.answer(make_batch(page), branch, max_new_tokens=6)[0] for page in PAGES]
    counted = trained(tiny_checkpoint)
    assert together == counted.answer(make_batch(*PAGES), "teacher", max_new_tokens=6)


@pytest.mark.parametrize("keep_positions", [False, True])
def test_it_generates_from_pixels_what_the_container_answers(tiny_checkpoint, tmp_path, make_batch, keep_positions):
    pair, batch = trained(tiny_checkpoint, keep_positions=keep_positions), make_batch(PAGES[0])
    save_student(pair.student, tmp_path / "student", tiny_checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "student").eval()
    sequences = batch.sequences["student"]
    new = model.generate(
        input_ids=sequences.prompt_ids,
        attention_mask=sequences.prompt_mask,
        pixel_values=inputs(pair, batch)["pixel_values"],
        max_new_tokens=6,
        do_sample=False,
    )[0, sequences.prompt_ids.shape[1] :].tolist()
    (answer,) = pair.answer(batch, "student", max_new_tokens=6)
    assert new[: len(answer)] == answer
    assert answer


@pytest.fixture
def asked(tiny_checkpoint, make_batch):
    """A student that keeps positions, a prompt with a page of several tiles, and what follows it token by token."""
    pair, batch = trained(tiny_checkpoint, keep_positions=True), make_batch(PAGES[0])
    given = inputs(pair, batch)
    assert len(given["pixel_values"]) > 1
    student, steps = pair.student.eval(), {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    ids = given["input_ids"]
    return student, given, steps, student.generate(**given, **steps)[:, ids.shape[1] :]


def test_copies_of_a_prompt_see_the_page_as_it_is(asked):
    student, given, steps, expected = asked
    length = given["input_ids"].shape[1]
    copies = student.generate(**given, **{**steps, "do_sample": True}, top_k=1, num_return_sequences=2)[:, length:]
    assert copies.tolist() == expected.tolist() * 2
    assert find_labels(type(student)) == ["labels"]  # which Trainer leaves in the batch


@pytest.mark.parametrize("way", [{"use_cache": False}, {"prefill_chunk_size": 8}], ids=["no cache", "in chunks"])
def test_positions_are_kept_however_it_generates(asked, way):
    student, given, steps, expected = asked
    length = given["input_ids"].shape[1]
    assert student.generate(**given, **steps, **way)[:, length:].tolist() == expected.tolist()


@torch.no_grad()
def test_positions_are_kept_by_a_loop_of_ones_own(asked):
    student, given, _, expected = asked
    del given["attention_mask"]
    cache, said = DynamicCache(), []
    out = student(**given, past_key_values=cache)
    for _ in range(expected.shape[1]):
        said.append(out.logits[:, -1:].argmax(-1))
        out = student(input_ids=said[-1], past_key_values=cache)
    assert torch.cat(said, 1).tolist() == expected.tolist()


def test_a_conversation_may_go_on_with_what_is_new_only(asked):
    student, given, steps, expected = asked
    cache, mask, prompt = DynamicCache(), given["attention_mask"], given["input_ids"]
    steps |= {"output_logits": True, "return_dict_in_generate": True}
    at_once = student.generate(**given, **steps).logits
    student.generate(**given, **{**steps, "max_new_tokens": 3, "min_new_tokens": 3}, past_key_values=cache)
    known = cache.get_seq_length()  # the last token is not in it
    whole = torch.cat([prompt, expected], 1)
    rest = whole[:, known : prompt.shape[1] + 3]
    went_on = student.generate(
        input_ids=rest,
        attention_mask=torch.ones(1, known + rest.shape[1], dtype=mask.dtype),
        past_key_values=cache,
        **{**steps, "max_new_tokens": 2, "min_new_tokens": 2},
    )
    torch.testing.assert_close(went_on.logits, at_once[3:])


@pytest.mark.parametrize(("ratio", "count"), [(1, 4), (2, 2), (4, 1)])
def test_it_reports_its_own_token_count(tiny_checkpoint, tmp_path, ratio, count):
    pair = trained(tiny_checkpoint, "pool", ratio)
    save_student(pair.student, tmp_path, tiny_checkpoint)
    assert pair.student.config.image_seq_length == count
    assert AutoConfig.from_pretrained(tmp_path).image_seq_length == count
    assert json.loads((tmp_path / "processor_config.json").read_text())["image_seq_length"] == count


def test_the_processors_other_settings_are_kept(tiny_checkpoint, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_checkpoint, source)
    (source / "processor_config.json").write_text('{"image_seq_length": 4, "processor_class": "Mine"}')
    save_student(trained(tiny_checkpoint).student, tmp_path / "student", source)
    said = json.loads((tmp_path / "student" / "processor_config.json").read_text())
    assert said == {"image_seq_length": 2, "processor_class": "Mine"}


@pytest.mark.parametrize("most", [None, 6])
def test_image_settings_are_copied_byte_for_byte_where_training_was_as_they_say(tiny_checkpoint, tmp_path, most):
    save_student(trained(tiny_checkpoint).student, tmp_path, tiny_checkpoint, max_tiles=most)
    name = "preprocessor_config.json"
    assert (tmp_path / name).read_bytes() == (tiny_checkpoint / name).read_bytes()


@pytest.mark.parametrize("transformers", [4, 5])
def test_the_most_tiles_of_training_are_those_that_pages_are_cut_into(tiny_checkpoint, tmp_path, nest, transformers):
    source = shutil.copytree(tiny_checkpoint, tmp_path / "source")
    if transformers == 5:
        nest(source)
    save_student(trained(tiny_checkpoint).student, tmp_path / "student", source, max_tiles=3)
    before, after = ModelFolder(source).preprocessing, ModelFolder(tmp_path / "student").preprocessing
    assert after == {**before, "max_patches": 3}
    assert json.loads((tmp_path / "student" / "processor_config.json").read_text())["image_seq_length"] == 2


def test_a_saved_folder_is_whole(tiny_checkpoint, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_checkpoint, source)
    (source / "merge.json").write_text('{"chosen": "shapley"}')
    (source / "merges.txt").write_text("a b\n")
    save_student(trained(tiny_checkpoint).student, tmp_path / "student", source)
    names = {path.name for path in (tmp_path / "student").iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "merges.txt"}
    assert "merge.json" not in names  # it tells of the source's weights, not of these
    again = StudentTeacher(tmp_path / "student")
    assert again.student.config.model_type == "fcot_internvl"


def test_other_weights_can_be_saved_in_the_models_place(tiny_checkpoint, tmp_path):
    student = trained(tiny_checkpoint).student
    zeros = {name: torch.zeros_like(tensor) for name, tensor in student.state_dict().items()}
    save_student(student, tmp_path, tiny_checkpoint, zeros)
    assert all(tensor.count_nonzero() == 0 for tensor in load_student(tmp_path).state_dict().values())
    assert student.lm_head.weight.abs().sum() > 0


def test_a_native_model_is_saved_as_what_it_is(tiny_checkpoint, tmp_path):
    native = load_student(tiny_checkpoint)
    save_student(native, tmp_path, tiny_checkpoint)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(loaded) is InternVLForConditionalGeneration
    assert all(torch.equal(tensor, native.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_a_head_tied_to_the_embeddings_stays_tied(tiny_checkpoint, tmp_path, make_batch):
    source = tmp_path / "tied"
    shutil.copytree(tiny_checkpoint, source)
    config = json.loads((source / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (source / "config.json").write_text(json.dumps(config))
    InternVLForConditionalGeneration(AutoConfig.from_pretrained(source)).save_pretrained(source)
    pair = trained(source)
    assert pair.student.lm_head.weight is pair.student.get_input_embeddings().weight
    save_student(pair.student, tmp_path / "student", source)
    loaded = load_student(tmp_path / "student")
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    batch = make_batch(*PAGES)
    assert torch.equal(logits(loaded, pair, batch), logits(pair.student, pair, batch))


def test_without_weights_a_compressor_starts_as_its_class_says(tiny_checkpoint):
    config = trained(tiny_checkpoint, "conv").student.config
    fresh = AutoModelForImageTextToText.from_config(config).model.multi_modal_projector.compressor
    expected = Conv(ratio=2, side=2, width=fresh.width)
    assert torch.equal(fresh.conv.weight, expected.conv.weight)
    assert torch.equal(fresh.conv.bias, expected.conv.bias)


def test_it_ends_an_answer_as_the_teacher_does(tiny_checkpoint, tmp_path, make_batch):
    first = trained(tiny_checkpoint).answer(make_batch(PAGES[0]), "student", max_new_tokens=3)[0][0]
    source = tmp_path / "source"
    shutil.copytree(tiny_checkpoint, source)
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [258, first], "pad_token_id": 256}))
    assert trained(source).answer(make_batch(PAGES[0]), "student", max_new_tokens=3) == [[]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "inside"}, "placement is 'inside'. Use 'before' or 'after'"),
        ({"compressor": "convv"}, "no compressor 'convv'. Did you mean 'conv'"),
        ({"ratio": 3}, "Ratio 3 does not divide the 4 visual tokens"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(tiny_checkpoint, options, message):
    with pytest.raises(ValueError) as caught:
        StudentTeacher(tiny_checkpoint, **{"compressor": "conv", "ratio": 2, **options})
    assert message in str(caught.value)


@pytest.mark.parametrize("images", [True, False], ids=["pixels", "embeddings"])
def test_only_the_last_row_of_a_prompt_meets_the_head(tiny_checkpoint, make_batch, images):
    pair, batch, rows = trained(tiny_checkpoint), make_batch(*PAGES), []
    pair.student.lm_head.register_forward_hook(lambda _, args, out: rows.append(tuple(out.shape[:2])))
    if images:
        pair.student.generate(**inputs(pair, batch), max_new_tokens=3, min_new_tokens=3)
    else:
        pair.answer(batch, "student", max_new_tokens=3, min_new_tokens=3)
    assert rows == [(2, 1)] * 3
