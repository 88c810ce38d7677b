"""Logits in padded rows are the same logits."""

import pytest
import torch

from fcot.training import logits
from fcot.training.cross_entropy import answer_cross_entropy
from fcot.training.distillation import distillation_loss


@pytest.fixture
def padded(monkeypatch):
    """Rows are padded as on an accelerator."""
    monkeypatch.setattr(logits, "_pads", lambda rows, width: True)


def inputs(rows=5, width=8, vocabulary=93):
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(rows, width, generator=draw) for _ in range(2))
    return student, teacher, torch.randn(vocabulary, width, generator=draw), torch.arange(rows)


def test_rows_begin_at_multiples_of_an_alignment(padded):
    rows, _, head, _ = inputs()
    found = logits.logits_of(rows, head)
    assert found.shape == (5, 93) and found.stride() == (128, 1)
    torch.testing.assert_close(found, rows @ head.T)
    cast = logits.cast(found, torch.bfloat16)
    assert cast.dtype == torch.bfloat16 and cast.stride() == (128, 1)
    assert cast.equal(found.bfloat16())


def test_a_cpu_pads_nothing():
    rows, _, head, _ = inputs()
    assert logits.logits_of(rows, head).stride() == (93, 1)
    assert logits.cast(rows, torch.bfloat16).is_contiguous()


def losses():
    student, teacher, head, labels = inputs()
    student.requires_grad_()
    head.requires_grad_()
    both = distillation_loss(student, teacher, head, labels, chunk_rows=2).loss
    alone, _ = answer_cross_entropy(student, head, labels, chunk_rows=2)
    (both + alone).backward()
    return torch.stack([both, alone]).detach(), student.grad, head.grad


def test_both_losses_and_their_gradients_are_those_of_plain_rows(monkeypatch):
    expected = losses()
    monkeypatch.setattr(logits, "_pads", lambda rows, width: True)
    for found, plain in zip(losses(), expected, strict=True):
        torch.testing.assert_close(found, plain)
