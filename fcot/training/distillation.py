"""Re-alignment loss from hidden rows: KL to the teacher plus cross-entropy, in chunks (FCoT-VL, section 3.2).

Full logits are never stored: the head is applied to a few rows at a time, and the gradient to the student's rows
is formed in the same pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fcot.errors import UserError
from fcot.internvl.encoder import IGNORED
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


def _read_teacher(teacher: Tensor, head: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return a chunk's most likely tokens `[rows]`, and fp32 log-probabilities at the temperature."""
    z_t = functional.linear(teacher, head).float()
    best = z_t.argmax(-1)
    if temperature != 1:
        z_t.div_(temperature)
    return best, z_t.log_softmax(-1)


def _chunk(
    student: Tensor,
    best: Tensor,
    log_t: Tensor,
    head: Tensor,
    target: Tensor,
    kl_weight: float,
    ce_weight: float,
    temperature: float,
    *,
    last: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a chunk's gradient `[rows, width]`, sum of KL, number of agreements, and cross-entropies `[rows]`.

    At most four fp32 tensors `[rows, vocabulary]` exist at a time, five before the last student, who may use up the
    teacher's log-probabilities: each is reused or freed as soon as possible.
    """
    z_s = functional.linear(student, head).float()
    agreed = (z_s.argmax(-1) == best).sum()
    log_s = z_s.log_softmax(-1)
    ce = -log_s.gather(1, target)[:, 0]
    d_z = log_s.exp().mul_(ce_weight)
    d_z.scatter_add_(1, target, torch.full_like(target, -ce_weight, dtype=d_z.dtype))
    if temperature != 1:
        del log_s
        log_s = z_s.div_(temperature).log_softmax(-1)
    del z_s
    p_t = log_t.exp()
    difference = log_t.sub_(log_s) if last else log_t - log_s
    # 0 · (−inf − x) is 0 in a divergence, not NaN
    kl = difference.mul_(p_t).nan_to_num_(0.0).sum()
    del difference
    d_z.add_(log_s.exp_().sub_(p_t), alpha=kl_weight * temperature)
    del log_s, p_t
    return functional.linear(d_z.to(head.dtype), head.T), kl, agreed, ce


class _Chunked(torch.autograd.Function):
    """Sums over rows of each student's loss and its parts; the gradient is formed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        students: Tensor,
        teacher: Tensor,
        head: Tensor,
        labels: Tensor,
        kl_weight: float,
        ce_weight: float,
        temperature: float,
        chunk_rows: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # labels are int64, the rest floating point; autograd records nothing here
        count, length = students.shape[:2]
        gradient = torch.zeros_like(students)
        kl_sum = students.new_zeros(count, dtype=torch.float32)
        agreed = torch.zeros_like(kl_sum)
        ce_rows = students.new_zeros(count, length, dtype=torch.float32)
        for start in range(0, length, chunk_rows):
            rows = slice(start, start + chunk_rows)
            best, log_t = _read_teacher(teacher[rows], head, temperature)
            for i in range(count):
                given = (students[i, rows], best, log_t, head, labels[rows, None], kl_weight, ce_weight, temperature)
                gradient[i, rows], kl, same, ce_rows[i, rows] = _chunk(*given, last=i == count - 1)
                kl_sum[i] += kl
                agreed[i] += same
            del log_t
        ctx.save_for_backward(gradient)
        loss = kl_weight * temperature**2 * kl_sum + ce_weight * ce_rows.sum(1)
        ctx.mark_non_differentiable(kl_sum, agreed, ce_rows)
        return loss, kl_sum, agreed, ce_rows

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grads[0].to(gradient.dtype)[:, None, None], *[None] * 7)


def distillation_loss(student_rows: Tensor, *args: Tensor, **options: Any) -> DistillationLoss:
    """Compare one student with its teacher: see `distillation_losses`."""
    return distillation_losses([student_rows], *args, **options)[0]


def distillation_losses(
    student_rows: Sequence[Tensor],
    teacher_rows: Tensor,
    head_weight: Tensor,
    labels: Tensor,
    *,
    kl_weight: float = 1.0,
    ce_weight: float = 1.0,
    temperature: float = 1.0,
    chunk_rows: int = 256,
) -> list[DistillationLoss]:
    """Compare students with their teacher on the rows that predict answer tokens; its logits are computed once.

    Args:
        student_rows: Final hidden rows of each student `[rows, width]`.
        teacher_rows: Final hidden rows of the teacher for the same tokens `[rows, width]`.
        head_weight: The language model's head `[vocabulary, width]`, frozen.
        labels: Id of the token that each row should predict `[rows]`; rows with −100 are left out.
        kl_weight: Weight of KL(teacher ‖ student).
        ce_weight: Weight of the cross-entropy with the labels.
        temperature: Softens both distributions in the KL.
        chunk_rows: Rows whose logits exist at a time; affects memory, not the result.

    Returns:
        For each student the loss, with a gradient to its rows only, and its parts. Without any counted row the loss is
        zero and still connected to the graph.

    Raises:
        UserError: If the shapes do not match, or temperature or chunk_rows is not positive.
    """
    for rows in student_rows:
        if rows.shape != teacher_rows.shape or len(rows) != len(labels):
            raise UserError(
                f"Student rows {tuple(rows.shape)}, teacher rows {tuple(teacher_rows.shape)} and labels "
                f"{tuple(labels.shape)} differ. Both branches must keep the same answer tokens."
            )
    if temperature <= 0:
        raise UserError(f"temperature is {temperature}. It must be positive.")
    check_chunk_rows(chunk_rows)
    counted = labels != IGNORED
    # on the meta device, where FLOPs are counted, labels have no values: every row counts
    if not labels.is_meta and not bool(counted.all()):
        student_rows, teacher_rows = [rows[counted] for rows in student_rows], teacher_rows[counted]
        labels = labels[counted]
    # The loss is exact in the rows' own precision; autocast would round the head product a second time.
    with without_autocast(teacher_rows.device.type):
        dtype = torch.promote_types(student_rows[0].dtype, torch.bfloat16)
        head = head_weight.detach().to(dtype)
        found = _Chunked.apply(  # type: ignore[no-untyped-call]
            torch.stack([rows.to(dtype) for rows in student_rows]),
            teacher_rows.detach().to(dtype),
            head,
            labels,
            kl_weight,
            ce_weight,
            temperature,
            chunk_rows,
        )
    count = max(1, len(labels))
    return [
        DistillationLoss(loss / count, kl / count, ce_rows.sum() / count, agreed / count, ce_rows)
        for loss, kl, agreed, ce_rows in zip(*found, strict=True)
    ]


def check_chunk_rows(count: int) -> int:
    """Check how many rows' logits may exist at a time, and return it.

    Raises:
        UserError: If it is not positive.
    """
    if count < 1:
        raise UserError(f"chunk_rows is {count}.\nSet it to at least 1; 256 is a good start.")
    return count
