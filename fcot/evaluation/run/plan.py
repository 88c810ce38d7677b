"""Which rows are answered together: a function of the rows alone, so that any number of processes does the same."""

from collections.abc import Mapping, Sequence

from fcot.evaluation.rows import Row
from fcot.evaluation.run.pages import Page


def batches(
    rows: Sequence[Row], pages: Mapping[str, Sequence[Page]], costs: Mapping[str, int], *, batch_size: int, budget: int
) -> list[list[str]]:
    """Put rows into batches: those of a page together, pages of about the same cost together, the dearest first.

    Args:
        rows: To be answered.
        pages: Of each row by its id.
        costs: Tokens of each row by its id.
        batch_size: Most rows of a batch.
        budget: Most tokens of a batch, every row counted at the cost of the dearest one.

    Returns:
        Ids of the rows of each batch; a row that is over the budget alone has a batch to itself.
    """
    by_page: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        by_page.setdefault(tuple(page.sha256 for page in pages[row.id]), []).append(row.id)
    groups = sorted(by_page.values(), key=lambda ids: -max(costs[each] for each in ids))  # stable: in order of rows
    found: list[list[str]] = []
    for ids in groups:
        for each in ids:
            if not found or not _fits(found[-1], each, costs, batch_size, budget):
                found.append([])
            found[-1].append(each)
    return found


def _fits(batch: Sequence[str], row: str, costs: Mapping[str, int], batch_size: int, budget: int) -> bool:
    if not batch:
        return True
    dearest = max(costs[row], *(costs[each] for each in batch))
    return len(batch) < batch_size and dearest * (len(batch) + 1) <= budget
