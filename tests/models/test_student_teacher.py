import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fcot.errors import UserError
from fcot.internvl.encoder import IGNORED
from fcot.internvl.pixels import normalize
from fcot.models.new_student import student_of
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher, answer_labels, answer_samples, part_of
from fcot.training.distillation import distillation_loss

PAGES = (("What?", "a short one", 2), ("And a longer question?", "x", 1), ("Total", "a rather longer answer", 3))
TEXT_ONLY = ("What is 2 + 2?", "4", 0)


def realigning(checkpoint, **options):
    """A student and its teacher as re-alignment trains them."""
    pair = StudentTeacher(checkpoint, **{"compressor": "conv", "ratio": 2, **options})
    pair.train_parts("projector")
    return pair.train()


def loss_of(pair, batch):
    features = pair.features(batch.tiles)
    labels = answer_labels(batch.sequences["student"])
    teacher, student = pair.teacher_rows(batch, features), pair.student_rows(batch, features)
    return distillation_loss(student, teacher, pair.head_weight, labels)


@pytest.fixture(scope="module")
def pair(tiny_checkpoint):
    """For tests that change nothing."""
    return realigning(tiny_checkpoint).eval()


def test_without_compression_the_student_is_the_teacher_bit_for_bit(tiny_checkpoint, make_batch):
    pair, batch = realigning(tiny_checkpoint, compressor="identity", ratio=1), make_batch(*PAGES, ratio=1)
    assert torch.equal(pair.student_rows(batch), pair.teacher_rows(batch))
    loss = loss_of(pair, batch)
    assert abs(float(loss.kl)) < 1e-6
    assert loss.agreement == 1
    assert pair.answer(batch, "student", max_new_tokens=8) == pair.answer(batch, "teacher", max_new_tokens=8)


def test_teacher_rows_are_those_of_the_plain_transformers_model(tiny_checkpoint, pair, make_batch):
    batch, plain = make_batch(*PAGES), load_student(tiny_checkpoint).eval()
    sequences = batch.sequences["teacher"]
    with torch.no_grad():
        logits = plain(
            input_ids=sequences.input_ids,
            pixel_values=normalize(batch.tiles, pair.mean, pair.std),
            attention_mask=(sequences.input_ids != plain.config.text_config.pad_token_id).long(),
        ).logits
    expected = logits[:, :-1][sequences.labels[:, 1:] != IGNORED]
    torch.testing.assert_close(pair.teacher_rows(batch) @ pair.head_weight.T, expected, rtol=1e-5, atol=1e-5)


def test_features_are_of_the_layer_that_the_teacher_reads(tiny_checkpoint, tmp_path, make_batch):
    folder = tmp_path / "teacher"
    shutil.copytree(tiny_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_feature_layer": -2}))
    pair, plain, batch = realigning(folder).eval(), load_student(folder).eval(), make_batch(*PAGES)
    with torch.no_grad():
        expected = plain.get_image_features(normalize(batch.tiles, pair.mean, pair.std)).pooler_output
        found = pair.teacher_projector(pair.features(batch.tiles))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["lm_head", "vision_tower.encoder.layer.0.mlp.fc1"])
def test_a_teacher_with_broken_weights_is_refused_by_file_and_tensor(tiny_checkpoint, tmp_path, name):
    folder = tmp_path / "teacher"
    shutil.copytree(tiny_checkpoint, folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    (broken,) = (key for key in weights if key.endswith(f"{name}.weight"))
    for content, said in (
        (weights[broken] * float("nan"), rf"{name}.weight' in {file} holds NaN or infinity"),
        (weights[broken][1:].clone(), rf"{file}: tensor '\S*{name}.weight' has shape"),
        (None, rf"{folder}: 1 tensors are missing, such as '\S*{name}.weight'"),
    ):
        changed = {**weights, broken: content}
        save_file({key: tensor for key, tensor in changed.items() if tensor is not None}, file, {"format": "pt"})
        with pytest.raises(UserError, match=said):
            StudentTeacher(folder, compressor="conv", ratio=2)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"{file} is cut short.*, tensor '\S+' for one"):
        StudentTeacher(folder, compressor="conv", ratio=2)


def test_rows_predict_the_answer_tokens_of_their_sample(pair, make_batch):
    batch = make_batch(*PAGES)
    sequences = batch.sequences["student"]
    answers = [list(f"{answer}".encode()) for _, answer, _ in PAGES]
    assert answer_samples(sequences).bincount().tolist() == [len(answer) + 1 for answer in answers]
    assert len(pair.student_rows(batch)) == len(answer_labels(sequences)) == sum(len(a) + 1 for a in answers)
    assert torch.equal(answer_labels(sequences), answer_labels(batch.sequences["teacher"]))


def test_only_projector_and_compressor_learn(tiny_checkpoint, make_batch):
    pair = realigning(tiny_checkpoint)
    loss_of(pair, make_batch(*PAGES)).loss.backward()
    learns = {name for name, _ in pair.trainable()}
    assert learns == {
        f"student.model.multi_modal_projector.{name}"
        for name, _ in pair.student.model.multi_modal_projector.named_parameters()
    }
    assert any(".compressor." in name for name in learns)
    for name, parameter in pair.named_parameters():
        assert (parameter.grad is not None) == (name in learns), name
    assert all(parameter.grad.abs().sum() > 0 for _, parameter in pair.trainable())


def test_frozen_weights_stay_what_they_are_to_the_last_bit(tiny_checkpoint, make_batch):
    pair, batch = realigning(tiny_checkpoint), make_batch(*PAGES)
    optimizer = torch.optim.AdamW([p for p in pair.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    before, start = pair.frozen_digest(), {name: p.detach().clone() for name, p in pair.trainable()}
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(pair, batch).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert pair.frozen_digest() == before
    assert not any(torch.equal(p, start[name]) for name, p in pair.trainable())
    assert losses[-1] < losses[0]


def test_the_digest_sees_any_frozen_weight_and_no_trained_one(tiny_checkpoint):
    pair = realigning(tiny_checkpoint)
    before = pair.frozen_digest()
    with torch.no_grad():
        next(p for _, p in pair.trainable()).add_(1)
        assert pair.frozen_digest() == before
        pair.teacher_projector.linear_2.bias[0] += 1e-3
        assert pair.frozen_digest() != before


def test_there_is_one_vision_tower_and_one_language_model(tiny_checkpoint, pair):
    native = load_student(tiny_checkpoint)
    student = student_of(native, StudentSpec("conv", 2))
    ours, theirs = dict(student.named_parameters()), dict(native.named_parameters())
    shared = {name for name in theirs if part_of(name) != "projector"}
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in shared)
    projector = student.model.multi_modal_projector
    assert not {p.data_ptr() for p in projector.parameters()} & {p.data_ptr() for p in native.parameters()}
    new = sum(p.numel() for p in projector.parameters())
    assert sum(p.numel() for p in pair.parameters()) == native.num_parameters() + new


def test_the_students_projector_starts_as_a_copy_of_the_teachers(tiny_checkpoint):
    pair = realigning(tiny_checkpoint)
    ours = pair.student.model.multi_modal_projector
    for name, tensor in pair.teacher_projector.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)
    with torch.no_grad():
        ours.linear_1.weight.zero_()
    assert pair.teacher_projector.linear_1.weight.abs().sum() > 0


@pytest.mark.parametrize("branch", ["teacher", "student"])
def test_padded_rows_equal_those_of_a_sample_alone(pair, make_batch, branch):
    samples = (*PAGES, TEXT_ONLY)
    rows = getattr(pair, f"{branch}_rows")
    together = rows(make_batch(*samples))
    alone = torch.cat([rows(make_batch(sample)) for sample in samples])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("branch", ["teacher", "student"])
def test_a_padded_batch_is_answered_as_one_at_a_time(pair, make_batch, branch):
    samples = (*PAGES, TEXT_ONLY)
    together = pair.answer(make_batch(*samples), branch, max_new_tokens=10)
    alone = [pair.answer(make_batch(sample), branch, max_new_tokens=10)[0] for sample in samples]
    assert together == alone
    assert all(together)


def test_an_answer_ends_before_its_end_token(pair, make_batch):
    batch = make_batch(*PAGES)
    free = pair.answer(batch, "student", max_new_tokens=6)
    stop = next(row[3] for row in free if row[3] not in row[:3])
    settings = copy.deepcopy(pair.student.generation_config)
    try:
        pair.student.generation_config.eos_token_id = [stop, 258]
        cut = pair.answer(batch, "student", max_new_tokens=6)
    finally:
        pair.student.generation_config = settings
    assert cut == [row[: row.index(stop)] if stop in row else row for row in free]
    assert cut != free


def test_the_compressed_prefix_changes_what_the_student_sees(pair, make_batch):
    batch = make_batch(*PAGES)
    assert not torch.allclose(pair.student_rows(batch), pair.teacher_rows(batch), atol=1e-3)


def test_pages_decide_the_rows(pair, make_batch):
    batch = make_batch(*PAGES)
    for branch in (pair.student_rows, pair.teacher_rows):
        darker = branch(batch.map(lambda t: t // 2 if t.dtype == torch.uint8 else t))
        assert not torch.allclose(darker, branch(batch), atol=1e-4)


def test_a_batch_of_text_alone_trains_without_effect(tiny_checkpoint, make_batch):
    pair = realigning(tiny_checkpoint)
    loss = loss_of(pair, make_batch(TEXT_ONLY))
    loss.loss.backward()
    assert abs(float(loss.kl)) < 1e-6  # without a page the student is the teacher
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for _, p in pair.trainable())


def test_a_batch_of_another_ratio_is_refused_with_sample_expected_and_found(pair, make_batch):
    batch = make_batch(*PAGES, ratio=4)
    with pytest.raises(ValueError, match=r"Sample 'What\?' \(2 tiles\) has 2 image placeholders for 4 visual tokens"):
        pair.student_rows(batch)
    with pytest.raises(ValueError, match=r"Sample 'What\?' \(2 tiles\) has 2 image placeholders for 4 visual tokens"):
        pair.answer(batch, "student", max_new_tokens=1)


def test_frozen_modules_stay_in_evaluation_mode(tiny_checkpoint):
    pair = realigning(tiny_checkpoint)
    assert pair.student.model.multi_modal_projector.training
    assert not pair.student.model.vision_tower.training
    assert not pair.student.model.language_model.training
    pair.train_parts("vision", "projector", "llm")
    pair.train()
    assert pair.student.model.vision_tower.training
    assert pair.student.model.language_model.training
    assert not pair.eval().student.model.vision_tower.training


def test_the_vision_tower_learns_only_when_told_to(tiny_checkpoint, make_batch):
    pair, batch = StudentTeacher(tiny_checkpoint), make_batch(*PAGES, ratio=1)
    pair.train_parts("projector", "llm")
    assert not pair.features(batch.tiles).requires_grad
    pair.train_parts("vision")
    pair.student_rows(batch).sum().backward()
    assert all(
        (p.grad is not None) == (part_of(name) == "vision")
        for name, p in pair.named_parameters()
        if "mask_token" not in name
    )


def test_unknown_parts_are_refused(tiny_checkpoint):
    with pytest.raises(UserError, match=r"no part \['audio'\] to train\. Parts are vision, projector, llm"):
        StudentTeacher(tiny_checkpoint).train_parts("audio")


def test_a_student_alone_has_no_teacher(tiny_checkpoint, make_batch):
    with pytest.raises(RuntimeError, match="holds a student only"):
        StudentTeacher(tiny_checkpoint).teacher_rows(make_batch(*PAGES))


def test_a_student_is_not_compressed_again(tiny_checkpoint, tmp_path):
    save_student(realigning(tiny_checkpoint).student, tmp_path / "student", tiny_checkpoint)
    with pytest.raises(UserError, match=r"already a compressed student \(ratio 2\)"):
        StudentTeacher(tmp_path / "student", compressor="conv", ratio=2)


def test_from_scratch_takes_the_configuration_alone(tiny_checkpoint, tmp_path, make_batch):
    save_student(realigning(tiny_checkpoint).student, tmp_path / "student", tiny_checkpoint)
    for folder, ratio in ((tiny_checkpoint, 1), (tmp_path / "student", 2)):
        trained, fresh = StudentTeacher(folder), StudentTeacher(folder, from_scratch=True)
        assert trained.student.state_dict().keys() == fresh.student.state_dict().keys()
        assert type(trained.student) is type(fresh.student)
        weight = "model.language_model.embed_tokens.weight"
        assert not torch.equal(trained.student.state_dict()[weight], fresh.student.state_dict()[weight])
        assert len(fresh.student_rows(make_batch(*PAGES, ratio=ratio)))
