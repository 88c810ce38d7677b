"""The teachers' cells beside what their makers published: which split they are, and which part of MME."""

from fcot.reproduce.audit.finding import Figures, Finding, listed
from fcot.reproduce.audit.paper import Paper, Printed

SPLITS = ("val", "test")


def split_of(printed: Printed, published: dict[str, Printed]) -> str | None:
    """Return the split whose published score is printed like this; None if there is none or more than one."""
    found = [split for split, score in published.items() if printed.rounds(score.value)]
    return found[0] if len(found) == 1 else None


def mixed_splits(paper: Paper) -> Finding:
    """Find the split of each teacher's cell, and what a student's share is by the other split."""
    splits: dict[str, dict[str, str]] = {}
    lines, shares = [], []
    for row in paper.tables[1]:
        for column, published in paper.published.get(row.model, {}).items():
            if column not in row.cells or not set(SPLITS) <= set(published):
                continue
            if row.method == "teacher":
                found = split_of(row.cells[column], dict(published)) or "neither"
                splits.setdefault(column, {})[row.model] = found
                lines.append([row.model, column, row.cells[column].text, *(published[s].text for s in SPLITS), found])
            elif row.method == "FCoT-VL":
                each = [f"{100 * float(row.cells[column]) / float(published[split]):.1f} %" for split in SPLITS]
                shares.append([row.name, column, row.cells[column].text, *each])
    flagged = [
        f"{column}: {listed([f'{model} {split}' for model, split in by_model.items()])}"
        for column, by_model in splits.items()
        if len(set(by_model.values())) > 1
    ]
    sentence = "Every column's teachers are scored on one split."
    if flagged:
        sentence = f"Teachers of one column are scored on different splits. {'; '.join(flagged)}."
    return Finding(
        title="Validation and test mixed",
        sentence=sentence,
        arithmetic=(
            "A teacher's cell is compared with the scores that InternVL2's makers published for both splits (test: by "
            "the server). The split of the 8B students could not be read; if it is "
            "validation, they are held against a teacher's score on another set. The second table gives their share by "
            "either."
        ),
        tables=[
            Figures(["teacher", "column", "printed", "published, val", "published, test", "is"], lines, words=2),
            Figures(["student", "column", "printed", "of teacher's val", "of teacher's test"], shares, words=2),
        ],
        flagged=flagged,
    )


def mme_is_perception(paper: Paper) -> Finding:
    """Find out which part of MME Table 2 prints."""
    lines, flagged, sentence = [], [], "Table 2's MME is the sum of perception and cognition."
    for row in paper.tables[2]:
        if "MME" not in row.cells:
            continue
        teacher, printed = paper.teacher(row, 2), row.cells["MME"]
        share = f"{100 * float(printed) / float(teacher.cells['MME']):.1f} %"
        lines.append([row.name, printed.text, share])
        if row.method != "teacher":
            continue
        parts = paper.published[row.model]["MME"]
        total = sum(part.value for part in parts.values())
        if printed.rounds(parts["perception"].value) and not printed.rounds(total):
            flagged.append(f"{row.model}: {printed.text} is perception ({parts['perception'].text}) alone")
            sentence = (
                f"Table 2's MME is perception only: {printed.text} is the teacher's {parts['perception'].text} "
                f"of 2,000, not the {float(total):.2f} of 2,800 with cognition ({parts['cognition'].text})."
            )
    return Finding(
        title="MME is its perception part",
        sentence=sentence,
        arithmetic=(
            "The published parts of the teacher's MME are rounded to a whole number, alone and summed, and compared "
            "with its cell. Scores given elsewhere as a sum cannot be held against this column."
        ),
        tables=[Figures(["row", "printed", "of teacher"], lines)],
        flagged=flagged,
    )
