"""Differences between merges beside the standard error that the number of questions leaves them."""

import math

from fcot.reproduce.audit.finding import Figures, Finding, listed, signed
from fcot.reproduce.audit.paper import Paper

NORMAL_95 = 1.96  # standard errors on each side of a mean, for an interval of 95 %
BEST = "Shapley"  # the method that the paper chooses


def standard_error(share: float, questions: int) -> float:
    """Return the largest standard error of a mean of parts between 0 and 1: the binomial one.

    Args:
        share: The mean, 0 to 1.
        questions: How many were averaged.
    """
    return math.sqrt(share * (1 - share) / questions)


def margin(a: float, b: float, questions: int) -> float:
    """Return half of the 95 % interval of a difference of two such means, as if on different questions."""
    return NORMAL_95 * math.hypot(standard_error(a, questions), standard_error(b, questions))


def needed_correlation(difference: float, half: float) -> float:
    """Return how alike two models must score each question for their difference to be decided.

    A correlation c shrinks the variance of the difference by 1 − c, so |difference| = half·√(1 − c) at the limit.
    """
    return 1 - (difference / half) ** 2


def merge_differences(paper: Paper) -> Finding:
    """Set the gain of the chosen merge over each other one beside its interval."""
    rows = {row.method: row for row in paper.tables[4]}
    lines: list[list[str]] = []
    flagged: list[str] = []
    decided: list[str] = []
    for method, other in rows.items():
        if method == BEST:
            continue
        for column, printed in rows[BEST].cells.items():
            questions = next(iter(paper.benchmarks[column].questions.values()))
            best, rest = float(printed) / 100, float(other.cells[column]) / 100
            difference, half = best - rest, margin(best, rest, questions)
            open_ = abs(difference) <= half
            lines.append(
                [f"{BEST} − {method}", column, f"{questions:,}", signed(100 * difference, 2), f"± {100 * half:.2f}",
                 f"{needed_correlation(difference, half):.2f}" if open_ else "none", "open" if open_ else "decided"]
            )  # fmt: skip
            said_of = f"{column}, {BEST} − {method}: {signed(100 * difference, 2)} ± {100 * half:.2f}"
            (flagged if open_ else decided).append(said_of)
    return Finding(
        title="Merges beside their standard error",
        sentence=said(flagged, decided),
        arithmetic=(
            "A mean of N parts between 0 and 1 has a standard error of at most √(p(1 − p)/N). Two means on different "
            "questions differ by chance by less than 1.96·√(SE₁² + SE₂²) in 19 of 20 cases. On the same questions "
            "the interval is narrower by √(1 − c), where c is the correlation of the two models' scores; the last but "
            "one column gives the c from which the difference would be decided. Scores by question are not public, "
            "so c is not known. N is that of the validation split (of the test for ChartQA)."
        ),
        tables=[
            Figures(["difference", "column", "N", "points", "95 %", "c needed", "unpaired"], lines, words=2),
        ],
        flagged=flagged,
    )


def said(flagged: list[str], decided: list[str]) -> str:
    """Return the finding in a sentence."""
    count = len(flagged) + len(decided)
    if not flagged:
        return f"All {count} gains of the merge by Shapley values are larger than their 95 % interval."
    rest = f" (larger: {listed(decided)})" if decided else ""
    return (
        f"{len(flagged)} of {count} gains of the merge by Shapley values are smaller than the 95 % interval that their "
        f"number of questions leaves{rest}; without scores by question they decide nothing."
    )
