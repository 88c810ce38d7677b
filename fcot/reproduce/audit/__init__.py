"""What the numbers of FCoT-VL's tables say about themselves, recomputed from a data file."""

from collections.abc import Iterable
from pathlib import Path

from fcot.reproduce.audit.finding import Finding
from fcot.reproduce.audit.paper import Paper

__all__ = ["audit"]


def audit(output: Path = Path("runs/audit")) -> None:
    """Recompute what the paper's tables (FCoT-VL, arXiv 2502.18512) say about themselves, and write it as one page.

    Checks averages, splits, scores that no number of right answers gives, and times against counted FLOPs. Writes
    audit.html (self-contained) and AUDIT.md into the folder and prints a summary. Needs no network and no weights.

    Args:
        output: Folder of the two files; those of an earlier audit are replaced.
    """
    from fcot.reproduce.audit.limits import SIZES, TILES, count_limits, speed_ups
    from fcot.reproduce.audit.page import as_markdown, as_page
    from fcot.reproduce.audit.paper import read_paper

    paper = read_paper()
    limits = {model: count_limits(size, TILES) for model, size in SIZES.items()}
    found = [*findings(paper), speed_ups(paper, limits)]
    output.mkdir(parents=True, exist_ok=True)
    page, text = output / "audit.html", output / "AUDIT.md"
    page.write_text(as_page(paper, found), encoding="utf-8")
    text.write_text(as_markdown(paper, found), encoding="utf-8")
    print("\n".join(summary(found)))
    for sentence in paper.unknown:
        print(f"Not known: {sentence}")
    print(f"{page}\n{text}")


def findings(paper: Paper) -> list[Finding]:
    """Return every finding that the tables alone give, in the order of the page."""
    from fcot.reproduce.audit.averages import average_definitions, gain_over_teacher
    from fcot.reproduce.audit.hits import impossible_cells
    from fcot.reproduce.audit.merges import merge_differences
    from fcot.reproduce.audit.published import mixed_splits, mme_is_perception
    from fcot.reproduce.audit.times import hours, three_times

    asked = (
        mixed_splits,
        impossible_cells,
        gain_over_teacher,
        average_definitions,
        merge_differences,
        mme_is_perception,
        hours,
        three_times,
    )
    return [ask(paper) for ask in asked]


def summary(found: Iterable[Finding]) -> list[str]:
    """Return two lines for each finding: its title with how much does not fit, and its sentence."""
    lines = []
    for each in found:
        count = len(each.flagged)
        lines += [f"{each.title} ({f'{count} flagged' if count else 'nothing flagged'})", f"  {each.sentence}"]
    return lines
