"""What is gathered when, seen by one process that shares with nobody."""

from collections import Counter

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup
from torch.distributed.tensor import DTensor

from fcot.models.sharding import reshard, shard, unshard
from fcot.models.student_teacher import PARTS, StudentTeacher, answer_labels
from fcot.training.cross_entropy import answer_cross_entropy

SAMPLES = (("What?", "a short one", 2), ("And a longer question?", "x", 1), ("2 + 2?", "4", 0))


@pytest.fixture
def mesh(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.fixture
def pair(student_folder):
    made = StudentTeacher(student_folder)
    made.train_parts(*PARTS)
    return made


@pytest.fixture
def gathered(monkeypatch):
    """How often each unit was gathered."""
    counts, gather = Counter(), FSDPParamGroup._to_unsharded
    monkeypatch.setattr(FSDPParamGroup, "_to_unsharded", lambda self: (counts.update([self.modules]), gather(self)))
    return counts


def learn(pair, batch, **options):
    labels = answer_labels(batch.sequences["student"])
    loss, _ = answer_cross_entropy(pair.student_rows(batch), pair.head_weight, labels, **options)
    loss.backward()
    return loss.item()


def is_whole(module):
    return not any(isinstance(each, DTensor) for each in module.parameters())


def test_layers_are_gathered_for_themselves_and_the_head_once_a_batch(pair, mesh, student_folder, make_batch, gathered):
    batch, plain = make_batch(*SAMPLES), StudentTeacher(student_folder)
    plain.train_parts(*PARTS)
    expected = learn(plain, batch)
    shard(pair, mesh)
    layers = [module for module in pair.modules() if isinstance(module, FSDPModule) and module is not pair]
    model = pair.student.model
    assert {*model.vision_tower.encoder.layer, *model.language_model.layers, model.multi_modal_projector} == {*layers}
    whole_after = []
    model.language_model.norm.register_forward_hook(lambda *_: whole_after.extend(map(is_whole, layers)))
    assert learn(pair, batch, chunk_rows=1) == pytest.approx(expected, rel=1e-6)
    assert gathered[(pair,)] == 1
    assert [gathered[(layer,)] for layer in layers] == [2] * len(layers)  # forward and backward
    assert whole_after and not any(whole_after)
    gradients = dict(plain.trainable())
    for name, parameter in pair.trainable():
        assert isinstance(parameter, DTensor)
        torch.testing.assert_close(parameter.grad.full_tensor(), gradients[name].grad, rtol=1e-5, atol=1e-7, msg=name)


def test_weights_are_gathered_in_the_type_of_the_step_and_learn_in_fp32(pair, mesh, make_batch):
    shard(pair, mesh, torch.bfloat16)
    seen = []
    pair.student.model.language_model.norm.register_forward_hook(lambda *_: seen.append(pair.head_weight.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        learn(pair, make_batch(*SAMPLES))
    assert seen == [torch.bfloat16]
    assert {(p.dtype, p.grad.dtype) for _, p in pair.trainable()} == {(torch.float32, torch.float32)}


def test_between_two_steps_weights_may_be_whole_for_a_while(pair, mesh, make_batch, gathered):
    batch = make_batch(*SAMPLES)
    shard(pair, mesh)
    unshard(pair)
    assert is_whole(pair)
    before = gathered.copy()
    answers = pair.answer(batch, "student", max_new_tokens=3)
    with torch.no_grad():
        rows = pair.student_rows(batch)
    assert gathered == before  # so no process had to wait for another
    reshard(pair)
    assert all(isinstance(each, DTensor) for each in pair.parameters())
    learn(pair, batch)
    unshard(pair)
    assert pair.answer(batch, "student", max_new_tokens=3) == answers
    with torch.no_grad():
        torch.testing.assert_close(pair.student_rows(batch), rows)
