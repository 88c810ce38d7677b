"""What an average of a row can mean, and how much of an average above 100 % two columns make."""

from collections.abc import Callable, Sequence
from statistics import fmean

from fcot.reproduce.audit.finding import Figures, Finding, listed, signed
from fcot.reproduce.audit.paper import Paper, Row

WITHOUT_V2 = ("OCRBench v2 EN", "OCRBench v2 CH")
CARRYING = ("AI2D", "MathVista")  # reasoning on pictures; the 2B students gain most on these two

Definition = Callable[[Row, Row, Sequence[str]], float]


def of_scores(row: Row, teacher: Row, columns: Sequence[str]) -> float:
    """Return the mean of a row's scores."""
    return fmean(float(row.cells[column]) for column in columns)


def of_ratios(row: Row, teacher: Row, columns: Sequence[str]) -> float:
    """Return the mean of a row's scores over the teacher's, in percent."""
    return 100 * fmean(float(row.cells[column]) / float(teacher.cells[column]) for column in columns)


def of_means(row: Row, teacher: Row, columns: Sequence[str]) -> float:
    """Return the mean of a row's scores over that of the teacher's, in percent."""
    return 100 * of_scores(row, teacher, columns) / of_scores(teacher, teacher, columns)


DEFINITIONS: dict[str, Definition] = {
    "mean of scores": of_scores,
    "mean of ratios, %": of_ratios,
    "ratio of means, %": of_means,
}


def column_sets(paper: Paper) -> dict[str, list[str]]:
    """Return the sets of columns that an average can be over, by name."""
    rows = paper.tables[1]
    every = [*rows[0].cells]
    shared = [column for column in every if all(column in row.cells for row in rows)]
    return {
        f"all {len(every)}": every,
        f"the {len(shared)} of every row": shared,
        "all but OCRBench v2": [column for column in every if column not in WITHOUT_V2],
        "of every row but OCRBench v2": [column for column in shared if column not in WITHOUT_V2],
    }


def candidates(paper: Paper, row: Row) -> dict[tuple[str, str], float | None]:
    """Return a row's average by each definition over each set of columns; None where the row lacks a column."""
    teacher = paper.teacher(row)
    return {
        (name, over): define(row, teacher, columns) if all(column in row.cells for column in columns) else None
        for name, define in DEFINITIONS.items()
        for over, columns in column_sets(paper).items()
    }


def average_definitions(paper: Paper) -> Finding:
    """Set the possible averages of Table 1 beside each other, and beside the printed ones where there are any."""
    rows = [row for row in paper.tables[1] if row.method != "teacher"]
    values = {row.name: candidates(paper, row) for row in rows}
    sets = [*column_sets(paper)]
    printed = {row.name: row.average for row in paper.tables[1] if row.average}
    flagged, sentence = [], spread(rows, values)
    if printed:
        known = {row.name: candidates(paper, row) for row in paper.tables[1] if row.average}
        fitting = [
            each
            for each in next(iter(known.values()))
            if all((mean := known[name][each]) is not None and cell.rounds(mean) for name, cell in printed.items())
        ]
        flagged = [] if fitting else ["no definition gives all printed averages"]
        fit = f"All printed averages are {listed([f'{name} over {over}' for name, over in fitting])}."
        sentence = fit if fitting else "No single definition of an average gives all the printed ones."
    tables = [
        Figures(
            ["row", *(f"{name}, {over}" for over in sets)],
            [[row.name, *(figure(values[row.name][name, over]) for over in sets)] for row in rows],
        )
        for name in DEFINITIONS
    ]
    return Finding(
        title="What an average can mean",
        sentence=sentence,
        arithmetic=(
            "Mean of ratios: the mean over columns of student/teacher. Ratio of means: the student's mean over the "
            "teacher's, in which columns with high scores weigh more. FastV has no score on three columns, so an "
            "average over all ten cannot be compared with one over its seven. A dash: the row lacks a column."
        ),
        tables=tables,
        flagged=flagged,
    )


def spread(rows: Sequence[Row], values: dict[str, dict[tuple[str, str], float | None]]) -> str:
    """Return how far the definitions relative to the teacher are apart, for the row where it is most."""
    widest, low, high = "", 0.0, 0.0
    for row in rows:
        relative = [value for (name, _), value in values[row.name].items() if value is not None and "%" in name]
        if max(relative) - min(relative) > high - low or not widest:
            widest, low, high = row.name, min(relative), max(relative)
    return (
        f"By definition of the average, {widest}, keeps between {low:.1f} and {high:.1f} % of the teacher; "
        "an average without its definition says little."
    )


def gain_over_teacher(paper: Paper) -> Finding:
    """Compute the mean of ratios of each student with and without the two columns in `CARRYING`."""
    lines, flagged, said = [], [], []
    for row in paper.tables[1]:
        if row.method == "teacher" or not all(column in row.cells for column in CARRYING):
            continue
        teacher, columns = paper.teacher(row), [*row.cells]
        rest = [column for column in columns if column not in CARRYING]
        whole, without = of_ratios(row, teacher, columns), of_ratios(row, teacher, rest)
        one_by_one = [of_ratios(row, teacher, [c for c in columns if c != column]) for column in CARRYING]
        above = sum(float(row.cells[column]) > float(teacher.cells[column]) for column in rest)
        lines.append(
            [row.name, f"{whole:.2f}", *(f"{each:.2f}" for each in one_by_one), f"{without:.2f}",
             *(f"{of_ratios(row, teacher, [column]):.1f}" for column in CARRYING), f"{above} of {len(rest)}"]
        )  # fmt: skip
        if whole > 100:
            said.append(f"{row.name}: {signed(whole - 100, 1)} % becomes {signed(without - 100, 1)} %")
        if whole > 100 >= without:
            flagged.append(f"{row.name}: {whole:.1f} % with both, {without:.1f} % without")
    names = listed(CARRYING)
    sentence = (
        f"Without {names}, {len(flagged)} of {len(said)} gains over the teacher are gone: {'; '.join(said)}."
        if said
        else "No student's mean of ratios is above its teacher's."
    )
    return Finding(
        title="Where the gain over 100 % comes from",
        sentence=sentence,
        arithmetic=(
            f"The mean of student/teacher over a row's columns, with and without {names}, in percent. Removing "
            "visual tokens adds no information, so a gain of this size comes from what was trained on; the control, "
            "the uncompressed teacher trained on the same data, is missing in the paper. The last column counts the "
            "other columns on which the student scores higher."
        ),
        tables=[
            Figures(
                ["row", "all", *(f"without {column}" for column in CARRYING), "without both",
                 *(f"{column} alone" for column in CARRYING), "others above teacher"],
                lines,
            )
        ],
        flagged=flagged,
    )  # fmt: skip


def figure(value: float | None) -> str:
    """Return a figure of two decimals, or a dash."""
    return "\N{EN DASH}" if value is None else f"{value:.2f}"
