"""A table or figure of the re-run: text, picture, and what of the paper's claims holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcot.files.markdown import table
from fcot.reproduce.page_scores import Scores
from fcot.reproduce.paper.claims import Claim, points
from fcot.statistics import DifferenceOverSeeds, paired_difference_over_seeds


@dataclass(frozen=True)
class Section:
    """What a part gave.

    Attributes:
        title: Such as "Table 1: …".
        lead: What was run.
        head: Titles of the table's columns; empty without a table.
        rows: Its cells.
        picture: A PNG, if there is one.
        alt: What the picture shows, for readers who do not see it.
        claims: The paper's statements, judged.
        notes: What else was found, a sentence each.
    """

    title: str
    lead: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    picture: bytes | None = None
    alt: str = ""
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = ()


CLAIM_HEAD = ("claim", "paper", "here", "verdict")


def claim_rows(claims: Sequence[Claim]) -> list[list[str]]:
    """Return the cells of a table of claims."""
    return [[claim.says, claim.paper, claim.ours, claim.verdict] for claim in claims]


def as_markdown(section: Section, picture: str) -> list[str]:
    """Return the section as Markdown.

    Args:
        section: What was found.
        picture: Where its picture lies.
    """
    lines = [f"## {section.title}", "", section.lead, ""]
    if section.head:
        lines += [table(section.head, section.rows, [":--", *["--:"] * (len(section.head) - 1)]), ""]
    if section.picture is not None:
        lines += [f"![{section.alt}]({picture})", ""]
    if section.notes:
        lines += [*(f"- {note}" for note in section.notes), ""]
    if section.claims:
        lines += [table(CLAIM_HEAD, claim_rows(section.claims), [":--", "--:", "--:", ":--"]), ""]
    return lines


def difference(a: Sequence[Scores], b: Sequence[Scores]) -> DifferenceOverSeeds:
    """Return the difference of two ways, each a run for each seed; one that needs no training stands for all seeds."""
    number = max(len(a), len(b))
    one, other = (list(each) * (number if len(each) == 1 else 1) for each in (a, b))
    return paired_difference_over_seeds(one, other)


def level(runs: Sequence[Scores]) -> DifferenceOverSeeds:
    """Return the scores of a way themselves, with intervals over seeds and pages."""
    return paired_difference_over_seeds(
        runs, [{task: [0.0] * len(scores) for task, scores in run.items()} for run in runs]
    )


def score_row(name: str, runs: Sequence[Scores]) -> list[str]:
    """Return a row of a table of scores in points of 100: the mean with its interval, then each task."""
    found = level(runs)
    return [name, points(found.mean, sign=""), *(f"{100 * each.mean:.1f}" for each in found.by_task.values())]


def told(scores: Mapping[str, object], seeds: int, pages: int, split: str = "split test") -> str:
    """Return what a table of scores is of."""
    return (
        f"Mean score over {len(scores)} tasks in points of 100, with 95 % intervals over pages, and over seeds where "
        f"there are several; {split}, n = {pages}, {seeds} seed{'s' if seeds > 1 else ''}."
    )
