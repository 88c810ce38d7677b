"""Verifiers as metrics of `fcot test`: the share of answers whose conclusion a verifier accepts."""

from collections.abc import Sequence
from functools import partial

from fcot.metrics import AnswerMetric
from shards.factory.verifiers.conclusion import concluded
from shards.factory.verifiers.verifier import VERIFIERS, Task, Verifier

_MADE: dict[type[Verifier], type[AnswerMetric]] = {}


def offer_verifiers() -> None:
    """Make a metric of each verifier, those of plugins included: `number` becomes `verified_number`, and so on."""
    for kind in VERIFIERS.values():
        if kind not in _MADE:
            _MADE[kind] = metric_of(kind)


def metric_of(kind: type[Verifier]) -> type[AnswerMetric]:
    """Return the metric of a verifier; its name is the verifier's with `Verified` before it."""
    doc = f"Share of answers whose conclusion the verifier {kind.__name__} accepts: {(kind.__doc__ or '').strip()}"
    score = staticmethod(partial(verified, kind))
    return type(f"Verified{kind.__name__}", (AnswerMetric,), {"__doc__": doc, "score": score})


def verified(kind: type[Verifier], prediction: str, references: Sequence[str]) -> float:
    """Return 1 if a verifier accepts what an answer concludes, else 0; the reasoning before it does not count.

    Args:
        kind: The verifier.
        prediction: The generated answer.
        references: The accepted answers, at least one; of those that are reasoned, the conclusion.
    """
    verifier = kind()
    said, *truths = (each.strip() if verifier.whole else concluded(each) for each in (prediction, *references))
    return float(bool(said) and verifier.accepts(said, Task(truths[0], tuple(truths[1:]))))
