"""Cells that no number of right answers gives: k hits of N questions, rounded or cut to the printed digits."""

import math
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

from fcot.reproduce.audit.finding import Figures, Finding, listed
from fcot.reproduce.audit.paper import Paper, Printed

ROUNDED, TRUNCATED, PADDED = "rounded", "truncated", "rounded before its last 0"


def hits(printed: Printed, questions: int) -> dict[str, list[int]]:
    """Return every number of hits whose percentage is printed like this, by the way it is.

    Args:
        printed: A percentage.
        questions: How many there are.

    Returns:
        Numbers of hits, none for a way that is impossible. Rounded: a tie may go either way. The last way is for
        digits that end in 0, which may have been appended: 85.8 printed as 85.80.
    """
    found: dict[str, list[int]] = {ROUNDED: [], TRUNCATED: [], PADDED: []}
    shorter = Printed(printed.text.rstrip("0").rstrip(".")) if "." in printed.text else printed
    low = math.floor((printed.value - shorter.unit) * questions / 100)
    high = math.ceil((printed.value + shorter.unit) * questions / 100)
    for k in range(max(low, 0), min(high, questions) + 1):
        share = Fraction(100 * k, questions)
        for way, fits in ((ROUNDED, printed.rounds), (TRUNCATED, printed.truncates), (PADDED, shorter.rounds)):
            if fits(share) and (way != PADDED or shorter.text != printed.text):
                found[way].append(k)
    return found


def chance(questions: int, decimals: int) -> float:
    """Return which share of all percentages with so many decimals is a rounded k of N: how little a pass says."""
    steps = 100 * 10**decimals
    # floor and ceiling around a tie: it may be printed either way
    values = {
        bound(Fraction(k * steps, questions) + shift)
        for k in range(questions + 1)
        for bound, shift in ((math.floor, Fraction(1, 2)), (math.ceil, -Fraction(1, 2)))
    }
    return float(len(values) / (steps + 1))


def impossible_cells(paper: Paper) -> Finding:
    """Ask every column whose score is hits over questions which of its cells can be."""
    summary, failing, flagged = [], [], []
    for column, benchmark in paper.benchmarks.items():
        cells = printed_cells(paper, column) if benchmark.hits else {}
        for split, questions in benchmark.questions.items() if cells else ():
            ways = {text: way_of(Printed(text), questions) for text in cells}
            digits = max(len(text.partition(".")[2]) for text in cells)
            counts = Counter(ways.values())
            summary.append(
                [column, f"{split}, {questions:,}", f"{100 / questions:.4f}", str(len(cells)),
                 *(str(counts[way]) for way in (TRUNCATED, PADDED, "impossible")),
                 f"{100 * chance(questions, digits):.0f} %"]
            )  # fmt: skip
            failing += [
                [f"{column}, {questions:,}", text, cells[text], *around(text, questions), way]
                for text, way in ways.items()
                if way != ROUNDED
            ]
            if split == next(iter(benchmark.questions)):  # the split that the column is taken for
                flagged += [f"{column} {text}" for text, way in ways.items() if way == "impossible"]
    unasked = [column for column, benchmark in paper.benchmarks.items() if not benchmark.hits]
    return Finding(
        title="Scores that no number of right answers gives",
        sentence=said(flagged),
        arithmetic=(
            "A score of k hits in N questions is 100·k/N, rounded or truncated to the printed digits, or rounded to "
            "fewer digits with a zero appended. ChartQA is the mean of two halves of 1,250, which is k/2,500 as well. "
            "OCRBench prints every k of 1,000, so it cannot fail. The last column of "
            "the first table says how many numbers with as many digits pass by chance. "
            f"{listed(unasked)} give parts of a point to an answer or average over groups, and cannot be asked. "
            "A mean over several runs, or another set of questions, would explain such a cell. "
            "ScienceQA is asked both for the questions with a picture and for the whole test; if no cell is impossible "
            "for either, the cells do not say which was used."
        ),
        tables=[
            Figures(["column", "split, N", "step", "cells", f"only {TRUNCATED}", f"only {PADDED}", "impossible",
                     "pass by chance"], summary, words=2),
            Figures(["column, N", "printed", "table", "next below", "next above", "is"], failing),
        ],
        flagged=flagged,
    )  # fmt: skip


def way_of(printed: Printed, questions: int) -> str:
    """Return the plainest way in which a percentage can be printed, or "impossible"."""
    return next((way for way, found in hits(printed, questions).items() if found), "impossible")


def said(flagged: list[str]) -> str:
    """Return the finding in a sentence."""
    if not flagged:
        return "Every score that is hits over questions can be: some number of right answers gives it."
    return f"{len(flagged)} different scores cannot be: no number of right answers gives {listed(flagged)}."


def printed_cells(paper: Paper, column: str) -> dict[str, str]:
    """Return the different texts of a column over all tables of scores, with the numbers of their tables."""
    found: dict[str, list[str]] = {}
    for number, rows in paper.tables.items():
        if number == 5:  # times
            continue
        for row in rows:
            if column in row.cells:
                found.setdefault(row.cells[column].text, []).append(str(number))
    return {text: ", ".join(unique(numbers)) for text, numbers in found.items()}


def unique(words: Iterable[str]) -> list[str]:
    """Return each word once, in order."""
    return list(dict.fromkeys(words))


def around(text: str, questions: int) -> list[str]:
    """Return the percentages of k hits next to a printed one, with their k."""
    below = math.floor(Printed(text).value * questions / 100)
    return [f"{k:,}/{questions:,} = {100 * k / questions:.4f}" for k in (below, below + 1)]
