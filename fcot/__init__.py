"""Halve or quarter the visual tokens of a text-reading vision-language model, and keep it reading."""

from importlib import import_module
from typing import Any

# Public names and the modules they are in: importing fcot imports none of them, and no torch.
_PUBLIC = {
    "AnswerMetric": "fcot.metrics",
    "Batch": "fcot.batch",
    "CompressedInternVL": "fcot.models.student",
    "Compressor": "fcot.compress",
    "PageLayout": "fcot.batch",
    "Realign": "fcot.training.realign",
    "SFT": "fcot.training.sft",
    "Sampling": "fcot.models.sampling",
    "StudentSpec": "fcot.models.spec",
    "StudentTeacher": "fcot.models.student_teacher",
    "Trainer": "fcot.runtime.trainer",
    "UserError": "fcot.errors",
    "load_student": "fcot.models.student_folder",
    "merge_snapshots": "fcot.merge",
    "reduced": "fcot.reduce",
    "save_student": "fcot.models.student_folder",
    "shorten": "fcot.reduce",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fcot' has no attribute {name!r}. Public names are {', '.join(__all__)}.")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
