"""Rows at answer positions are those of transformers' own forward pass, packed or padded."""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from fcot.batch import Segments
from fcot.models import decoder as trunk
from fcot.models.decoder import PACKED
from fcot.models.student_teacher import StudentTeacher, answer_labels, answer_samples
from fcot.training.distillation import distillation_loss

SAMPLES = (
    ("What?", "a short one", 2),
    ("2 + 2?", "4", 0),
    ("And a longer question?", "x", 1),
    ("Total", "a rather longer answer", 3),
)


@pytest.fixture(scope="module", params=["counted anew", "kept positions"])
def pair(request, tiny_checkpoint_of_three_layers):
    found = StudentTeacher(
        tiny_checkpoint_of_three_layers,
        compressor="conv",
        ratio=2,
        keep_positions=request.param == "kept positions",
    )
    found.train_parts("projector")
    torch.manual_seed(0)
    for _, parameter in found.trainable():  # far from the teacher: the divergence is no rounding error
        torch.nn.init.normal_(parameter, std=0.3)
    return found.train()


@pytest.fixture(scope="module")
def tiny_checkpoint_of_three_layers(tmp_path_factory):
    from transformers import AutoConfig, InternVLForConditionalGeneration

    from fcot.tiny import write_architecture

    folder = write_architecture(
        tmp_path_factory.mktemp("three") / "tiny", tile_size=56, width=32, vision_layers=1, text_layers=3, heads=2
    )
    torch.manual_seed(0)
    InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def step(pair, batch):
    """Cross-entropy of each row, and the gradients of a step on the batch."""
    features = pair.features(batch.tiles)
    teacher, student = pair.teacher_rows(batch, features), pair.student_rows(batch, features)
    labels = answer_labels(batch.sequences["student"])
    assert torch.equal(labels, answer_labels(batch.sequences["teacher"]))
    found = distillation_loss(student, teacher, pair.head_weight, labels)
    pair.zero_grad()
    (found.loss * len(labels)).backward()
    return teacher, found.ce_rows, {name: parameter.grad.clone() for name, parameter in pair.trainable()}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_rows_are_those_of_a_block_diagonal_mask_over_all_layers(pair, make_batch):
    batch = make_batch(*SAMPLES, token_budget=10**6)
    sequences = batch.sequences["student"]
    embeddings = pair.embed("student", batch, sequences.input_ids, pair.features(batch.tiles), sequences.lengths)
    samples = torch.repeat_interleave(torch.arange(len(SAMPLES)), torch.tensor(sequences.lengths))
    places = torch.arange(len(samples))
    mask = (samples[:, None] == samples) & (places <= places[:, None])
    alone = [pair.positions("student", make_batch(sample).sequences["student"].input_ids) for sample in SAMPLES]
    counted = [torch.arange(length)[None] for length in sequences.lengths]
    where = torch.cat([a if a is not None else b for a, b in zip(alone, counted, strict=True)], dim=1)
    hidden = pair.student.model.language_model(
        inputs_embeds=embeddings, attention_mask=mask[None, None], position_ids=where, use_cache=False
    )[0]
    close(pair.student_rows(batch), hidden[0, sequences.answers])


@pytest.mark.parametrize("token_budget", [10**6, 73, 1])
def test_packed_samples_have_the_losses_and_gradients_they_have_alone(pair, make_batch, token_budget):
    batch = make_batch(*SAMPLES, token_budget=token_budget)
    packs = {branch: batch.sequences[branch].packs for branch in ("teacher", "student")}
    if token_budget == 73:
        assert packs["teacher"] != packs["student"]  # each branch has packs of its own
    teacher, ce_rows, gradients = step(pair, batch)
    alone = [step(pair, make_batch(sample)) for sample in SAMPLES]
    close(teacher, torch.cat([rows for rows, _, _ in alone]))
    close(ce_rows, torch.cat([rows for _, rows, _ in alone]))
    for name, gradient in gradients.items():
        expected = sum(found[name] for _, _, found in alone)
        assert (gradient - expected).norm() <= 1e-6 * expected.norm(), name


def test_a_pack_in_another_order_gives_the_same(pair, make_batch):
    batch, order = make_batch(*SAMPLES, token_budget=10**6), [2, 0, 3, 1]
    _, first, gradients = step(pair, batch)
    for other in (batch.take(order), make_batch(*(SAMPLES[i] for i in order), token_budget=10**6)):
        _, second, turned = step(pair, other)
        samples = answer_samples(batch.sequences["student"])
        close(second, torch.cat([first[samples == i] for i in order]))
        for name in gradients:
            assert (gradients[name] - turned[name]).norm() <= 1e-6 * gradients[name].norm(), name


def test_no_token_sees_another_sample(pair, make_batch):
    def rows(text, shade):
        batch = make_batch(("What?", text, 2), SAMPLES[2], ("Total", text, 3), token_budget=10**6)
        tiles = torch.cat([batch.tiles[:2] // shade, batch.tiles[2:3], batch.tiles[3:] // shade])
        found = pair.student_rows(replace(batch, tiles=tiles))
        return found[answer_samples(batch.sequences["student"]) == 1]

    assert torch.equal(rows("abcdef", 1), rows("ghijkl", 3))


@pytest.mark.parametrize("token_budget", [None, 10**6])
def test_activations_computed_again_change_nothing_and_the_teacher_never_does(pair, make_batch, token_budget):
    batch, calls = make_batch(*SAMPLES, token_budget=token_budget), []
    teacher, kept, gradients = step(pair, batch)
    handle = pair.student.model.language_model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    pair.checkpointing = True
    try:
        teacher_again, again, recomputed = step(pair, batch)
    finally:
        pair.checkpointing = False
        handle.remove()
    assert len(calls) == 3  # teacher once, student twice
    assert torch.equal(teacher, teacher_again)
    assert torch.equal(kept, again)
    for name in gradients:
        close(recomputed[name], gradients[name])


def test_a_batch_without_any_answer_gives_every_trained_parameter_a_gradient_of_zero(
    tiny_checkpoint_of_three_layers, make_batch
):
    pair = StudentTeacher(tiny_checkpoint_of_three_layers)
    pair.train_parts("vision", "projector", "llm")
    batch = make_batch(("2 + 2?", "4", 0), ratio=1)
    sequences = batch.sequences["student"]
    silent = sequences.map(lambda tensor: tensor)
    silent = type(silent)(silent.input_ids, torch.full_like(silent.labels, -100), silent.answers[:0], counts=(0,))
    batch.sequences["student"] = silent
    rows = pair.student_rows(batch)
    (rows.sum() + 0 * pair.head_weight.sum()).backward()
    assert len(rows) == 0
    for name, parameter in pair.trainable():
        assert parameter.grad is not None and parameter.grad.count_nonzero() == 0, name


def test_how_attention_is_computed_is_not_saved(pair, tmp_path):
    pair.student.config.save_pretrained(tmp_path)
    assert PACKED not in (tmp_path / "config.json").read_text()


@pytest.mark.gpu
def test_a_variable_length_kernel_attends_within_each_sample(monkeypatch, device):
    query, key, value = (torch.randn(1, heads, 60, 64, device=device).bfloat16() for heads in (4, 2, 2))
    if trunk.varlen_kernel(query) is None:
        pytest.skip("transformers finds no variable-length flash attention here")
    layer, segments = SimpleNamespace(num_key_value_groups=2, is_causal=True), Segments((10, 37, 13), (1, 1, 1))
    fast, _ = trunk.packed_attention(layer, query, key, value, None, segments=segments, scaling=0.125)
    monkeypatch.setattr(trunk, "varlen_kernel", lambda query: None)
    exact, _ = trunk.packed_attention(layer, query, key, value, None, segments=segments, scaling=0.125)
    torch.testing.assert_close(fast, exact, rtol=0.02, atol=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("token_budget", [None, 10**6, 73])
@pytest.mark.parametrize(
    "kernel", ["default", "one by one", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION"]
)
def test_rows_on_a_device_are_those_of_a_cpu_by_each_way_to_attend(
    pair, make_batch, device, monkeypatch, kernel, token_budget
):
    batch = make_batch(*SAMPLES, token_budget=token_budget)
    expected = pair.student_rows(batch).detach()
    there = deepcopy(pair).to(device)
    if kernel != "default":  # which is a variable-length kernel where there is one
        monkeypatch.setattr(trunk, "varlen_kernel", lambda query: None)
    for dtype, atol in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):  # rows go up to 4, and 2^-7 off in bf16
        there.to(dtype)
        # what a backend cannot do, such as flash attention a mask, is left to the plain one
        with sdpa_kernel([getattr(SDPBackend, kernel), SDPBackend.MATH]) if kernel.isupper() else nullcontext():
            rows = there.student_rows(batch.to(device))
        torch.testing.assert_close(rows.detach().cpu().float(), expected, rtol=0, atol=atol)


@pytest.mark.slow
def test_compiled_layers_give_the_same(tiny_checkpoint_of_three_layers, make_batch):
    pair = StudentTeacher(tiny_checkpoint_of_three_layers, compressor="conv", ratio=2)
    pair.train_parts("projector")
    batches = [make_batch(*SAMPLES[:count], token_budget=budget) for count in (3, 4) for budget in (None, 10**6)]
    expected = [step(pair, batch) for batch in batches]
    pair.compile_layers()
    for batch, (_, ce_rows, gradients) in zip(batches, expected, strict=True):
        _, found, same = step(pair, batch)
        torch.testing.assert_close(found, ce_rows, rtol=1e-4, atol=1e-5)
        for name in gradients:
            assert (gradients[name] - same[name]).norm() <= 1e-4 * gradients[name].norm(), name
