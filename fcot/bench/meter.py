"""Divide what a step costs, FLOPs or seconds, among its parts while the real code runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fcot.pair import StudentTeacher

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

    A pass of the language model without gradient is the teacher's, any other a student's. In the backward pass its
    gradient arrives at its rows first and at its embeddings last.
    """

    def language(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not torch.is_grad_enabled():
            meter.mark("teacher_llm")
            return
        meter.mark("student_llm_forward")
        on_gradient(output[0], lambda: meter.mark("projector" if "student_llm_backward" in meter.parts else "head"))
        on_gradient(kwargs["inputs_embeds"], lambda: meter.mark("student_llm_backward"))

    model = pair.student.model
    projectors = [module for module in (pair.teacher_projector, model.multi_modal_projector) if module is not None]
    handles = [
        model.vision_tower.register_forward_hook(lambda *_: meter.mark("vit")),
        *(module.register_forward_hook(lambda *_: meter.mark("projector")) for module in projectors),
        model.language_model.register_forward_hook(language, with_kwargs=True),
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
    model, passes = pair.student.model, 0

    def language(*_: Any) -> None:
        nonlocal passes
        passes += 1

    handles = [
        model.vision_tower.register_forward_hook(lambda *_: meter.mark("vit")),
        model.multi_modal_projector.register_forward_hook(lambda *_: meter.mark("projector")),
        model.language_model.register_forward_hook(language),
        pair.student.lm_head.register_forward_hook(lambda *_: meter.mark("prefill" if passes == 1 else "decode")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
