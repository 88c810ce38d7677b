"""What the times of Table 5 say to one another, and the hours of training."""

from collections.abc import Sequence

from fcot.reproduce.audit.finding import Figures, Finding, listed
from fcot.reproduce.audit.paper import Paper, Printed, Row

FEWEST, MOST = 2, 4  # see `halvings`


def halvings(slow: Printed, half: Printed, quarter: Printed) -> tuple[float, float]:
    """Return between what the saving of the first halving over that of the second lies, for rounded times.

    A time a + b/r + c/r² with none of the three negative gives b/2 + 3c/4 over b/4 + 3c/16: 2 to 4.
    """
    error = sum(each.unit for each in (slow, half)) / 2
    first, second = slow.value - half.value, half.value - quarter.value
    low = (first - error) / (second + error) if second + error > 0 else 0
    high = float((first + error) / (second - error)) if second - error > 0 else float("inf")
    return float(low), high


def three_times(paper: Paper) -> Finding:
    """Ask each model and page of Table 5 whether its three times fit one another, and look for equal cells."""
    lines, flagged = [], []
    for (model, column), times in triples(paper).items():
        slow, half, quarter = times
        low, high = halvings(slow, half, quarter)
        saved = [slow.value - half.value, half.value - quarter.value]
        ends = [
            slow.value - (slow.value - quarter.value) * share for share in (MOST / (MOST + 1), FEWEST / (FEWEST + 1))
        ]
        fits = low <= MOST and high >= FEWEST
        lines.append(
            [model, column, " / ".join(each.text for each in times), " / ".join(f"{float(each):g}" for each in saved),
             f"{float(saved[0] / saved[1]):.1f}" if saved[1] else "∞",
             f"{float(ends[0]):.0f} to {float(ends[1]):.0f}", "yes" if fits else "no"]
        )  # fmt: skip
        if not fits:
            flagged.append(f"{model}, {column}: {' / '.join(each.text for each in times)}")
    twins = equal_cells(paper.tables[5])
    sentence = "The three times of every model and page fit one another."
    if flagged:
        sentence = f"{len(flagged)} of {len(lines)} rows of three times do not fit one another: {'; '.join(flagged)}."
    for text, places in twins.items():
        sentence += f" {text} stands twice, as {listed(places)}."
    return Finding(
        title="Three times that must fit one another, and cells that are equal",
        sentence=sentence,
        arithmetic=(
            "Whatever the page, a time is a + b/r + c/r²: what does not shrink, what shrinks with the tokens, and "
            "attention among them. The first halving then saves 2 to 4 times what the second saves. A figure below 2 "
            "has no such cause. One above 4 says that the second halving saved too little, as when a device waits for "
            "the launch of its kernels, or that a cell is wrong. The range says where the time with half of the tokens "
            "would have to be, given the other two. No error of the times is known; noise of a few percent is "
            "enough to move a figure with a small second saving."
        ),
        tables=[
            Figures(["model", "column", "time at 1 / 2 / 4", "saved", "first over second", "range for ratio 2", "fits"],
                    lines, words=2)
        ],
        flagged=[*flagged, *(f"{text}: {listed(places)}" for text, places in twins.items())],
    )  # fmt: skip


def triples(paper: Paper) -> dict[tuple[str, str], list[Printed]]:
    """Return the times at ratio 1, 2 and 4 by model and column."""
    found: dict[tuple[str, str], list[Printed]] = {}
    for row in sorted(paper.tables[5], key=lambda row: (row.model, row.removed or 0)):
        for column, printed in row.cells.items():
            found.setdefault((row.model, column), []).append(printed)
    return found


def equal_cells(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the texts that stand in a column of times for two models, with their places."""
    places: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for column, printed in row.cells.items():
            places.setdefault((column, printed.text), []).append(row)
    return {
        f"{column} {text}": [row.name for row in found]
        for (column, text), found in places.items()
        if len({row.model for row in found}) > 1
    }


def hours(paper: Paper) -> Finding:
    """Say whether one stage of training is given one duration."""
    different = sorted(set(paper.hours))
    flagged = [listed([f"{each} h" for each in different])] if len(different) > 1 else []
    sentence = "One duration is given for each stage of training."
    if flagged:
        factor = different[-1] / different[0]
        sentence = (
            f"The same stage of training takes {flagged[0]}, a factor of {factor:g}; any cost per sample inherits it."
        )
    return Finding(
        title="Two durations for one stage",
        sentence=sentence,
        arithmetic="The durations are those of the text; devices and stage are as said under what is not known.",
        tables=[],
        flagged=flagged,
    )
