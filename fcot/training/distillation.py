"""Re-alignment loss from hidden rows: KL to the teacher plus cross-entropy, in chunks (FCoT-VL, section 3.2).

Full logits are never stored: the head is applied to a few rows at a time, and the gradient to the student's rows
is formed in the same pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fcot.errors import UserError
from fcot.internvl.tokens import IGNORED
from fcot.models.autocast import without_autocast


@dataclass(frozen=True)
class DistillationLoss:
    """The loss and its parts, each a mean over the rows whose label is not −100.

    Attributes:
        loss: kl_weight · τ² · KL + ce_weight · CE; the only part with a gradient.
        kl: KL(teacher ‖ student) at the temperature, without weight or τ².
        ce: Cross-entropy with the labels at temperature 1.
        agreement: Share of rows for which both models have the same most likely token.
        ce_rows: Cross-entropy of each counted row `[rows]`.
    """

    loss: Tensor
    kl: Tensor
    ce: Tensor
    agreement: Tensor
    ce_rows: Tensor


def _chunk(
    student: Tensor,
    teacher: Tensor,
    head: Tensor,
    target: Tensor,
    kl_weight: float,
    ce_weight: float,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a chunk's gradient `[rows, width]`, sum of KL, number of agreements, and cross-entropies `[rows]`.

    At most four fp32 tensors `[rows, vocabulary]` exist at a time: each is reused or freed as soon as possible.
    """
    z_s = functional.linear(student, head).float()
    z_t = functional.linear(teacher, head).float()
    agreed = (z_s.argmax(-1) == z_t.argmax(-1)).sum()
    log_s = z_s.log_softmax(-1)
    ce = -log_s.gather(1, target)[:, 0]
    d_z = log_s.exp().mul_(ce_weight)
    d_z.scatter_add_(1, target, torch.full_like(target, -ce_weight, dtype=d_z.dtype))
    if temperature != 1:
        del log_s
        log_s = z_s.div_(temperature).log_softmax(-1)
        z_t.div_(temperature)
    del z_s
    log_t = z_t.log_softmax(-1)
    del z_t
    p_t = log_t.exp()
    # 0 · (−inf − x) is 0 in a divergence, not NaN
    kl = log_t.sub_(log_s).mul_(p_t).nan_to_num_(0.0).sum()
    d_z.add_(log_s.exp_().sub_(p_t), alpha=kl_weight * temperature)
    del log_s, log_t, p_t
    return functional.linear(d_z.to(head.dtype), head.T), kl, agreed, ce


class _Chunked(torch.autograd.Function):
    """Sums over rows of the loss and its parts; the gradient is formed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        head: Tensor,
        labels: Tensor,
        kl_weight: float,
        ce_weight: float,
        temperature: float,
        chunk_rows: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # labels are int64, the rest floating point; autograd records nothing here
        gradient = torch.zeros_like(student)
        kl_sum = student.new_zeros((), dtype=torch.float32)
        agreed = torch.zeros_like(kl_sum)
        ce_rows = student.new_zeros(len(student), dtype=torch.float32)
        for start in range(0, len(student), chunk_rows):
            rows = slice(start, start + chunk_rows)
            gradient[rows], kl, same, ce_rows[rows] = _chunk(
                student[rows], teacher[rows], head, labels[rows, None], kl_weight, ce_weight, temperature
            )
            kl_sum += kl
            agreed += same
        ctx.save_for_backward(gradient)
        loss = kl_weight * temperature**2 * kl_sum + ce_weight * ce_rows.sum()
        ctx.mark_non_differentiable(kl_sum, agreed, ce_rows)
        return loss, kl_sum, agreed, ce_rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grads[0].to(gradient.dtype), *[None] * 7)


def distillation_loss(
    student_rows: Tensor,
    teacher_rows: Tensor,
    head_weight: Tensor,
    labels: Tensor,
    *,
    kl_weight: float = 1.0,
    ce_weight: float = 1.0,
    temperature: float = 1.0,
    chunk_rows: int = 256,
) -> DistillationLoss:
    """Compare student and teacher on the rows that predict answer tokens.

    Args:
        student_rows: Final hidden rows of the student `[rows, width]`.
        teacher_rows: Final hidden rows of the teacher for the same tokens `[rows, width]`.
        head_weight: The language model's head `[vocabulary, width]`, frozen.
        labels: Id of the token that each row should predict `[rows]`; rows with −100 are left out.
        kl_weight: Weight of KL(teacher ‖ student).
        ce_weight: Weight of the cross-entropy with the labels.
        temperature: Softens both distributions in the KL.
        chunk_rows: Rows whose logits exist at a time; affects memory, not the result.

    Returns:
        The loss, with a gradient to `student_rows` only, and its parts. Without any counted row the loss is
        zero and still connected to the graph.

    Raises:
        UserError: If the shapes do not match, or temperature or chunk_rows is not positive.
    """
    if student_rows.shape != teacher_rows.shape or len(student_rows) != len(labels):
        raise UserError(
            f"Student rows {tuple(student_rows.shape)}, teacher rows {tuple(teacher_rows.shape)} and labels "
            f"{tuple(labels.shape)} differ. Both branches must keep the same answer tokens."
        )
    if temperature <= 0:
        raise UserError(f"temperature is {temperature}. It must be positive.")
    check_chunk_rows(chunk_rows)
    counted = labels != IGNORED
    # on the meta device, where FLOPs are counted, labels have no values: every row counts
    if not labels.is_meta and not bool(counted.all()):
        student_rows, teacher_rows, labels = student_rows[counted], teacher_rows[counted], labels[counted]
    # The loss is exact in the rows' own precision; autocast would round the head product a second time.
    with without_autocast(student_rows.device.type):
        dtype = torch.promote_types(student_rows.dtype, torch.bfloat16)
        head = head_weight.detach().to(dtype)
        loss, kl, agreed, ce_rows = _Chunked.apply(  # type: ignore[no-untyped-call]
            student_rows.to(dtype),
            teacher_rows.detach().to(dtype),
            head,
            labels,
            kl_weight,
            ce_weight,
            temperature,
            chunk_rows,
        )
    rows = max(1, len(labels))
    return DistillationLoss(loss / rows, kl / rows, ce_rows.sum() / rows, agreed / rows, ce_rows)


def check_chunk_rows(count: int) -> int:
    """Check how many rows' logits may exist at a time, and return it.

    Raises:
        UserError: If it is not positive.
    """
    if count < 1:
        raise UserError(f"chunk_rows is {count}.\nSet it to at least 1; 256 is a good start.")
    return count
