"""Does a model's score agree with a published one?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcot.errors import UserError, nearest
from fcot.evaluation.benchmarks.benchmark import Column
from fcot.evaluation.benchmarks.published import Published
from fcot.evaluation.results.tested import TestedSet


@dataclass(frozen=True)
class Check:
    """One comparison with a published score.

    Attributes:
        column: Name of the column.
        published: The published value.
        value: The measured one.
        low: Lower end of its 95 % interval.
        high: Upper end.
        holds: Whether the published value lies within.
        reason: Why it cannot be compared; "" if it can.
    """

    column: str
    published: float | None
    value: float
    low: float
    high: float
    holds: bool
    reason: str = ""

    def line(self) -> str:
        """Return a sentence."""
        if self.reason:
            return f"{self.column}: {self.reason}"
        verdict = "agrees" if self.holds else "DIFFERS"
        return (
            f"{self.column}: {verdict}, {self.value:.2f} [{self.low:.2f}, {self.high:.2f}], published {self.published}"
        )


def check_published(
    columns: Mapping[str, tuple[Column, TestedSet]],
    model: str,
    scores: Sequence[Published],
    scoring: str,
    *,
    seed: int = 0,
) -> list[Check]:
    """Compare each column with the published score of a model for the same split and rule.

    Args:
        columns: With the set each is of.
        model: Label of the published model, such as "InternVL2-2B" or "InternVL2-2B FCoT-VL 50%".
        scores: All published scores.
        scoring: The rule that counted.
        seed: Of the bootstrap.
    """
    return [_check(column, of, model, scores, scoring, seed) for column, of in columns.values()]


def require_published(model: str, scores: Sequence[Published]) -> None:
    """Check that a model has published scores.

    Raises:
        UserError: If it has none.
    """
    labels = {each.label for each in scores}
    if model not in labels:
        raise UserError(f"No score of {model!r} is published.{nearest(model, labels)}")


def _check(column: Column, of: TestedSet, model: str, scores: Sequence[Published], scoring: str, seed: int) -> Check:
    interval = column.interval(seed=seed)
    ends = (interval.mean, interval.low, interval.high)
    name = column.name.partition("/")[0]  # a further split's column is named with it
    known = [each for each in scores if each.label == model and each.column == name]
    same = [each for each in known if each.split == of.split]
    ruled = [each for each in same if each.scoring == scoring]
    if not known:
        hint = nearest(model, {each.label for each in scores if each.column == name})
        return Check(column.name, None, *ends, False, f"no score of {model} is published.{hint}")
    if not same:
        others = ", ".join(sorted({each.split for each in known}))
        return Check(column.name, None, *ends, False, f"published for {others}, not for {of.split}")
    if not ruled:
        judged = f"{of.undecided(scoring)} of {len(of.scored)} rows would need one here"
        return Check(column.name, same[0].value, *ends, False, f"published by another rule or a judge; {judged}")
    value = ruled[0].value
    if not of.whole:  # few rows have so wide an interval that nearly any score lies within
        return Check(column.name, value, *ends, False, f"{len(of.scored)} rows are not the whole split")
    if missing := len(of.failed) + of.undecided(scoring):
        reason = f"{missing} of {len(of.scored)} rows have no score: they could not be asked, or need a judge"
        return Check(column.name, value, *ends, False, reason)
    return Check(column.name, value, *ends, interval.low <= value <= interval.high)
