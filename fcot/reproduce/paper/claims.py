"""What the paper claims, beside what was found here, and whether the two agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcot.statistics import DifferenceOverSeeds, Interval, holm


@dataclass(frozen=True)
class Claim:
    """One statement of the paper.

    Attributes:
        place: Table or figure.
        says: The statement.
        paper: Its figure in the paper; empty if there is none, as for a control that the paper lacks.
        ours: The figure here, with interval, n and seeds.
        verdict: agrees, disagrees, cannot tell, or "not in the paper".
    """

    place: str
    says: str
    paper: str
    ours: str
    verdict: str


def higher(place: str, says: str, paper: float | None, found: DifferenceOverSeeds) -> Claim:
    """Judge a statement that one way is better than another: it agrees if the interval lies above 0."""
    interval = found.mean
    verdict = "agrees" if interval.low > 0 else "disagrees" if interval.high < 0 else "cannot tell"
    return _claim(place, says, paper, found, verdict)


def lower(place: str, says: str, paper: float | None, found: DifferenceOverSeeds) -> Claim:
    """Judge a statement that one way is worse than another."""
    interval = found.mean
    verdict = "agrees" if interval.high < 0 else "disagrees" if interval.low > 0 else "cannot tell"
    return _claim(place, says, paper, found, verdict)


def not_lower(place: str, says: str, paper: float | None, found: DifferenceOverSeeds, margin: float = 0.01) -> Claim:
    """Judge a statement that nothing is lost: it agrees if the interval lies above -margin."""
    interval = found.mean
    verdict = "agrees" if interval.low > -margin else "disagrees" if interval.high < 0 else "cannot tell"
    return _claim(place, says, paper, found, verdict)


def equal(place: str, says: str, paper: float | None, found: DifferenceOverSeeds, margin: float = 0.02) -> Claim:
    """Judge a statement that two ways are as good as each other, up to a margin."""
    low, high = found.mean.low, found.mean.high
    inside, apart = -margin < low and high < margin, low > margin or high < -margin
    return _claim(place, says, paper, found, "agrees" if inside else "disagrees" if apart else "cannot tell")


def control(place: str, says: str, found: DifferenceOverSeeds) -> Claim:
    """State a comparison that the paper lacks."""
    return _claim(place, says, None, found, "not in the paper")


def told_apart(found: Mapping[str, DifferenceOverSeeds], level: float = 0.05) -> tuple[list[str], list[str]]:
    """Return which tasks are higher and which are lower, by Holm's correction over all that are given.

    Args:
        found: Differences by what is put behind the name of a task, such as " at snapshot 1".
        level: Largest chance of any false one.
    """
    by_name = {f"{task}{where}": (each.by_task[task], each.p_values[task])
               for where, each in found.items() for task in each.by_task}  # fmt: skip
    corrected = holm({name: p_value for name, (_, p_value) in by_name.items()})
    apart = {name: interval for name, (interval, _) in by_name.items() if corrected[name] < level}

    def named(sign: int) -> list[str]:
        return [f"{name} ({points(interval)})" for name, interval in apart.items() if sign * interval.mean > 0]

    return named(1), named(-1)


def by_sign(values: Sequence[float], pages: int, level: float = 0.05) -> str:
    """Judge whether values are above 0 on most pages: only if all are, on so many pages that chance seldom does it."""
    seldom = 2 * 0.5**pages < level
    return "agrees" if seldom and min(values) > 0 else "disagrees" if seldom and max(values) < 0 else "cannot tell"


def points(interval: Interval, sign: str = "+") -> str:
    """Return "+1.2 [+0.3, +2.1]", in points of 100; without a sign for what is no difference."""
    mean, low, high = (
        f"{100 * value:{sign}z.1f}".replace("-", "−") for value in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]"


def _claim(place: str, says: str, paper: float | None, found: DifferenceOverSeeds, verdict: str) -> Claim:
    stated = "" if paper is None else f"{paper:+.1f}".replace("-", "−")
    seeds = len(found.by_seed)
    counted = f"n = {found.mean.n}, {seeds} seed{'s' if seeds > 1 else ''}"
    return Claim(place, says, stated, f"{points(found.mean)}, {counted}", verdict)
