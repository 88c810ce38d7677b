"""Divide what a step costs, FLOPs or seconds, among its parts while the real code runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fcot.models.student_teacher import StudentTeacher

STEP_PARTS = ("vit", "projector", "teacher_llm", "student_llm_forward", "student_llm_backward", "head")
ANSWER_PARTS = ("vit", "projector", "prefill", "decode")


class Meter:
    """Adds up what a gauge shows by part: what passed since the last mark belongs to the part marked next.

    Args:
        gauge: Returns what has been used so far, FLOPs or seconds.
    """

    def __init__(self, gauge: Callable[[], float]) -> None:
        self.gauge = gauge
        self.parts: dict[str, float] = {}
        self.last = gauge()

    def mark(self, part: str) -> None:
        """Credit a part with what passed since the last mark."""
        now = self.gauge()
        self.parts[part] = self.parts.get(part, 0.0) + now - self.last
        self.last = now


@contextmanager
def step_parts(pair: StudentTeacher, meter: Meter) -> Iterator[None]:
    """Mark the parts of a re-alignment step, `STEP_PARTS`, except the head's after the forward pass.

    A pass of the language model without gradient is the teacher's, any other a student's; each begins with the
    angles of its embeddings' positions and ends with the norm of the rows. In the backward pass the gradient arrives
    at the rows first and at the embeddings last.
    """

    def begins(module: nn.Module, args: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled() and args[0].requires_grad:
            on_gradient(args[0], lambda: meter.mark("student_llm_backward"))

    def ends(module: nn.Module, args: Any, output: Tensor) -> None:
        if not torch.is_grad_enabled():
            meter.mark("teacher_llm")
            return
        meter.mark("student_llm_forward")
        on_gradient(output, lambda: meter.mark("projector" if "student_llm_backward" in meter.parts else "head"))

    model = pair.student.model
    projectors = [student.model.multi_modal_projector for student in pair.students().values()]
    if pair.teacher_projector is not None:
        projectors.append(pair.teacher_projector)
    handles = [
        model.vision_tower.register_forward_hook(lambda *_: meter.mark("vit")),
        *(module.register_forward_hook(lambda *_: meter.mark("projector")) for module in projectors),
        model.language_model.rotary_emb.register_forward_pre_hook(begins),
        model.language_model.norm.register_forward_hook(ends),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def on_gradient(tensor: Tensor, action: Callable[[], None]) -> None:
    """Do something when the gradient of a tensor has been computed."""
    tensor.register_hook(lambda _: action())


@contextmanager
def answer_parts(pair: StudentTeacher, meter: Meter) -> Iterator[None]:
    """Mark the parts of an answer, `ANSWER_PARTS`; the prefill ends with the head's first token."""
    model, tokens = pair.student.model, 0

    def token(*_: Any) -> None:
        nonlocal tokens
        tokens += 1
        meter.mark("prefill" if tokens == 1 else "decode")

    handles = [
        model.vision_tower.register_forward_hook(lambda *_: meter.mark("vit")),
        model.multi_modal_projector.register_forward_hook(lambda *_: meter.mark("projector")),
        pair.student.lm_head.register_forward_hook(token),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
