import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fcot.errors import UserError
from fcot.training.distillation import distillation_loss, distillation_losses

ROWS, WIDTH, VOCABULARY = 13, 16, 50


def random_rows(scale=1.0, dtype=torch.float32):
    """Student rows, teacher rows, head and labels; two rows have no label."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (scale * torch.randn(ROWS, WIDTH, generator=generator).to(dtype) for _ in range(2))
    head = torch.randn(VOCABULARY, WIDTH, generator=generator).to(dtype)
    labels = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    labels[[3, 8]] = -100
    return student.requires_grad_(), teacher.requires_grad_(), head.requires_grad_(), labels


def reference(student, teacher, head, labels, kl_weight, ce_weight, temperature):
    """The same from full logits in float64, by autograd: loss, KL, CE, gradient to the student's rows."""
    kept = labels != -100
    rows = student.detach().double().requires_grad_()
    z_s, z_t = rows[kept] @ head.detach().double().T, teacher.detach()[kept].double() @ head.detach().double().T
    log_s, log_t = (z_s / temperature).log_softmax(-1), (z_t / temperature).log_softmax(-1)
    kl = (log_t.exp() * (log_t - log_s)).sum(-1).mean()
    ce = torch.nn.functional.cross_entropy(z_s, labels[kept])
    loss = kl_weight * temperature**2 * kl + ce_weight * ce
    loss.backward()
    return loss.detach(), kl.detach(), ce.detach(), rows.grad


def relative(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("chunk_rows", [1, 4, 11, 256])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("kl_weight", "ce_weight"), [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
def test_loss_and_gradient_equal_a_full_logits_reference(kl_weight, ce_weight, temperature, chunk_rows):
    student, teacher, head, labels = random_rows()
    options = {"kl_weight": kl_weight, "ce_weight": ce_weight, "temperature": temperature}
    result = distillation_loss(student, teacher, head, labels, chunk_rows=chunk_rows, **options)
    result.loss.backward()
    loss, kl, ce, gradient = reference(student, teacher, head, labels, **options)
    assert relative(result.loss.detach(), loss) < 1e-5
    assert relative(result.kl, kl) < 1e-5
    assert relative(result.ce, ce) < 1e-5
    assert relative(student.grad, gradient) < 1e-5


def test_the_gradient_scales_with_what_comes_from_above():
    student, teacher, head, labels = random_rows()
    (3 * distillation_loss(student, teacher, head, labels).loss).backward()
    _, _, _, gradient = reference(student, teacher, head, labels, 1.0, 1.0, 1.0)
    assert relative(student.grad, 3 * gradient) < 1e-5


def test_rows_without_a_label_change_nothing():
    student, teacher, head, labels = random_rows()
    result = distillation_loss(student, teacher, head, labels)
    result.loss.backward()
    kept = labels != -100
    alone = distillation_loss(student[kept], teacher[kept], head, labels[kept])
    assert result.loss == alone.loss
    assert len(result.ce_rows) == int(kept.sum())
    assert student.grad[~kept].abs().max() == 0
    assert student.grad[kept].abs().min() > 0


def test_ce_rows_are_the_cross_entropy_of_each_counted_row():
    student, teacher, head, labels = random_rows()
    kept = labels != -100
    expected = torch.nn.functional.cross_entropy(student[kept] @ head.T, labels[kept], reduction="none")
    torch.testing.assert_close(distillation_loss(student, teacher, head, labels, chunk_rows=4).ce_rows, expected)


@pytest.mark.parametrize("rows", [0, 5])
def test_without_any_label_the_loss_is_zero_and_connected(rows):
    student, teacher = torch.randn(2, rows, WIDTH).unbind()
    student.requires_grad_()
    result = distillation_loss(student, teacher, torch.randn(VOCABULARY, WIDTH), torch.full((rows,), -100))
    result.loss.backward()
    assert result.loss == 0
    assert result.agreement == 0
    assert student.grad is not None
    assert student.grad.count_nonzero() == 0


def test_equal_rows_have_no_divergence_and_agree():
    student, _, head, labels = random_rows()
    result = distillation_loss(student, student.detach(), head, labels, ce_weight=0.0, temperature=2.0)
    result.loss.backward()
    assert abs(float(result.kl)) < 1e-6
    assert result.agreement == 1
    assert student.grad.abs().max() < 1e-6


def test_agreement_is_the_share_of_rows_with_the_same_most_likely_token():
    head = torch.eye(4)
    teacher = 5 * head[[0, 1, 2, 3, 0]]
    student = 5 * head[[0, 1, 3, 2, 0]]
    result = distillation_loss(student, teacher, head, torch.tensor([0, 0, 0, 0, -100]), chunk_rows=3)
    assert result.agreement == 0.5


def test_only_the_student_gets_a_gradient():
    student, teacher, head, labels = random_rows()
    result = distillation_loss(student, teacher, head, labels)
    result.loss.backward()
    assert teacher.grad is None
    assert head.grad is None
    assert not any(part.requires_grad for part in (result.kl, result.ce, result.agreement, result.ce_rows))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_ten_thousand_in_half_precision_stay_finite(dtype):
    head = torch.eye(4, dtype=dtype)
    student = torch.tensor([[1e4, -1e4, 0, 0], [-1e4, 1e4, 0, 0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0, 0], [-1e4, 1e4, 0, 0]], dtype=dtype)
    result = distillation_loss(student, teacher, head, torch.tensor([1, 1]))
    result.loss.backward()
    # row 0 is as wrong as can be: KL and CE are both the gap of 2e4; row 1 is right
    assert relative(result.kl, torch.tensor(1e4).double()) < 0.01
    assert relative(result.ce, torch.tensor(1e4).double()) < 0.01
    assert student.grad.isfinite().all()
    torch.testing.assert_close(student.grad.float(), torch.tensor([[1.0, -1, 0, 0], [0, 0, 0, 0]]))


def test_half_precision_rows_are_compared_in_full_precision():
    generator = torch.Generator().manual_seed(0)
    # whole numbers and a head of ones: the logits themselves are exact in bf16
    student, teacher = (torch.randint(-4, 5, (ROWS, 64), generator=generator).bfloat16() for _ in range(2))
    head, labels = torch.eye(64).bfloat16(), torch.arange(ROWS)
    result = distillation_loss(student, teacher, head, labels, temperature=2.0)
    loss, kl, ce, _ = reference(student, teacher, head, labels, 1.0, 1.0, 2.0)
    for found, expected in ((result.loss, loss), (result.kl, kl), (result.ce, ce)):
        assert found.dtype == torch.float32
        assert relative(found, expected) < 1e-5


def test_autocast_does_not_round_the_loss():
    student, teacher, head, labels = random_rows()
    outside = distillation_loss(student, teacher, head, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = distillation_loss(student, teacher, head, labels)
    assert inside.loss == outside.loss


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = out if isinstance(out, tuple | list) else [out]
        self.elements = max([self.elements, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
        return out


def test_memory_follows_the_chunk_not_the_rows():
    rows, vocabulary = 64, 500
    student, teacher = torch.randn(2, rows, 4).unbind()
    labels = torch.randint(vocabulary, (rows,))
    with LargestTensor() as largest:
        loss = distillation_loss(
            student.requires_grad_(), teacher, torch.randn(vocabulary, 4), labels, chunk_rows=8
        ).loss
        loss.backward()
    assert largest.elements <= 8 * vocabulary


def test_rows_of_different_numbers_are_refused():
    student, teacher, head, labels = random_rows()
    with pytest.raises(ValueError, match=r"\(12, 16\).*same answer tokens"):
        distillation_loss(student, teacher[:-1], head, labels)
    with pytest.raises(ValueError, match="same answer tokens"):
        distillation_loss(student, teacher, head, labels[:-1])


@pytest.mark.parametrize(("option", "value"), [("temperature", 0.0), ("temperature", -1.0), ("chunk_rows", 0)])
def test_an_impossible_option_is_refused_by_name(option, value):
    with pytest.raises((ValueError, UserError), match=f"{option} is {value}"):
        distillation_loss(*random_rows(), **{option: value})


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_students_that_are_compared_together_have_the_losses_of_each_alone(temperature):
    first, teacher, head, labels = random_rows()
    second = (first.detach() + 1).requires_grad_()
    options = {"temperature": temperature, "chunk_rows": 2, "kl_weight": 0.5}
    found = distillation_losses([first, second], teacher, head, labels, **options)
    (found[0].loss + 3 * found[1].loss).backward()
    for student, weight, both in zip((first, second), (1, 3), found, strict=True):
        rows = student.detach().requires_grad_()
        alone = distillation_loss(rows, teacher, head, labels, **options)
        (weight * alone.loss).backward()
        for name in ("loss", "kl", "ce", "agreement", "ce_rows"):
            assert getattr(both, name).equal(getattr(alone, name)), name
        assert student.grad.equal(rows.grad)
