import pytest
import torch

from fcot.errors import UserError
from fcot.training.cross_entropy import answer_cross_entropy
from fcot.training.realign import Realign
from fcot.training.sft import SFT

ROWS, WIDTH, VOCABULARY = 13, 16, 50


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(ROWS, WIDTH, generator=generator).to(dtype).requires_grad_()
    head = torch.randn(VOCABULARY, WIDTH, generator=generator).to(dtype).requires_grad_()
    return rows, head, torch.randint(VOCABULARY, (ROWS,), generator=generator), torch.rand(ROWS, generator=generator)


def full(rows, head, labels, weights):
    """The same from full logits in float64: loss, loss of each row, gradients."""
    rows, head = (tensor.detach().double().requires_grad_() for tensor in (rows, head))
    each = torch.nn.functional.cross_entropy(rows @ head.T, labels, reduction="none")
    loss = (each * weights).sum() / weights.sum()
    (3 * loss).backward()
    return loss.detach(), each.detach(), rows.grad, head.grad


@pytest.mark.parametrize("chunk_rows", [1, 4, 13, 1024])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradients_are_those_of_full_logits(chunk_rows, weighted):
    rows, head, labels, weights = inputs()
    weights = weights if weighted else torch.ones(ROWS)
    loss, each = answer_cross_entropy(rows, head, labels, weights if weighted else None, chunk_rows=chunk_rows)
    (3 * loss).backward()
    found = (loss.detach(), each, rows.grad, head.grad)
    for ours, expected in zip(found, full(rows, head, labels, weights), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)
    assert not each.requires_grad


def test_what_is_frozen_gets_no_gradient():
    rows, head, labels, _ = inputs()
    answer_cross_entropy(rows, head.detach(), labels)[0].backward()
    assert rows.grad is not None
    answer_cross_entropy(rows.detach(), head, labels)[0].backward()
    assert head.grad is not None
    with torch.no_grad():
        assert not answer_cross_entropy(rows, head, labels)[0].requires_grad


def test_without_any_row_the_loss_is_zero_and_connected():
    rows, head, labels, _ = inputs()
    loss, each = answer_cross_entropy(rows[:0], head, labels[:0])
    loss.backward()
    assert (float(loss.detach()), len(each)) == (0.0, 0)
    assert rows.grad.count_nonzero() == head.grad.count_nonzero() == 0


def test_autocast_multiplies_in_half_precision_and_keeps_full_gradients():
    rows, head, labels, weights = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, each = answer_cross_entropy(rows, head, labels, weights)
    (3 * loss).backward()
    expected = full(rows, head, labels, weights)
    assert each.dtype == rows.grad.dtype == head.grad.dtype == torch.float32
    for ours, exact in zip((loss.detach(), each, rows.grad, head.grad), expected, strict=True):
        assert (ours.double() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("chunk_rows", [0, -1])
def test_chunks_without_rows_are_refused_before_a_run(chunk_rows, student_folder):
    rows, head, labels, _ = inputs()
    for refused in (
        lambda: answer_cross_entropy(rows, head, labels, chunk_rows=chunk_rows),
        lambda: SFT(student_folder, chunk_rows=chunk_rows),
        lambda: Realign(student_folder, chunk_rows=chunk_rows),
    ):
        with pytest.raises(UserError, match=f"chunk_rows is {chunk_rows}"):
            refused()


def test_logits_of_all_rows_never_exist_at_once():
    from fcot.bench.measure import peak_memory

    head = torch.randn(4000, 8)
    rows, labels = torch.randn(512, 8, requires_grad=True), torch.randint(4000, (512,))

    def work():
        answer_cross_entropy(rows, head, labels, chunk_rows=16)[0].backward()

    assert peak_memory(work, torch.device("cpu")) < 512 * 4000 * 4 / 4
