"""Choose what a merge keeps: the last snapshot, unless a candidate beats it on pages not used to find it.

The best of many scores on few pages is mostly luck. So candidates are scored on one half of the dev pages,
and the best one is compared with the last snapshot on the other half, page by page, by the reported scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

from torch import Tensor

from fcot.errors import UserError, nearest
from fcot.merge.methods import MERGE_METHODS
from fcot.merge.report import Control
from fcot.merge.scores import PageScores
from fcot.statistics import Interval, paired_difference_by_group

LAST = "final"  # the method that keeps the last snapshot

Confirm = Callable[[Mapping[str, Tensor]], PageScores]


@dataclass(frozen=True)
class Choice:
    """The merge method that is kept, and why.

    Attributes:
        method: Its name.
        why: One sentence.
        candidate: The best-scoring method; None if none scored above the last snapshot, or none was looked for.
        difference: Mean score of the candidate minus that of the last snapshot on the other pages, with its paired 95 %
            interval; None if they were not compared.
        pages: The scores of those pages by task, of "candidate" and "final", if they were compared.
    """

    method: str
    why: str
    candidate: str | None = None
    difference: Interval | None = None
    pages: Mapping[str, PageScores] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "pages" or value is not None}


def check_method(method: str, options: Mapping[str, Any], permutations: int | None = None) -> None:
    """Check a merge method and its options before hours of training.

    Args:
        method: Its name, or "auto".
        options: The user's options of that method.
        permutations: Orders that the Shapley values are sampled from; None for exact ones.

    Raises:
        UserError: If there is no such method, it has no such option or lacks one it needs, "auto" is given any, or the
            method needs the score of every coalition and the Shapley values are sampled.
    """
    if method != "auto":
        if method not in MERGE_METHODS:
            raise UserError(f"There is no merge method {method!r}.{nearest(method, ['auto', *MERGE_METHODS])}")
        MERGE_METHODS.check_options(method, options)
        if permutations is not None and "banzhaf_values" in signature(MERGE_METHODS[method]).parameters:
            raise UserError(
                f"{method} needs the score of every coalition, and permutations score some of them.\n"
                "Leave permutations out, with at most 8 snapshots, or name another method."
            )
    elif options:
        raise UserError(f"Options {dict(options)} are given, and no merge method.\nName the method that takes them.")


def choose(
    controls: Mapping[str, Control],
    confirm: Confirm | None,
    mixtures: Mapping[str, Mapping[str, Tensor]],
    seed: int,
) -> Choice:
    """Keep the last snapshot unless the best candidate beats it on other pages.

    Args:
        controls: Every method's weights and score.
        confirm: Returns the reported scores of weights on other pages, by task and in page order; None if there are no
            such pages.
        mixtures: What each method makes of the snapshots.
        seed: Seed of the interval's resampling.
    """
    last = controls[LAST]
    others = {name: each for name, each in controls.items() if each.weights is None or each.weights != last.weights}
    candidate = max(others, key=lambda name: others[name].utility, default=LAST)
    if controls[candidate].utility <= last.utility:
        return Choice(LAST, "the last snapshot is kept: no candidate scores above it")
    if confirm is None:
        return Choice(LAST, "the last snapshot is kept: nothing was given to confirm a candidate on", candidate)
    scores = [confirm(mixtures[name]) for name in (candidate, LAST)]
    if not scores[0]:
        return Choice(LAST, "the last snapshot is kept: no pages are left to confirm a candidate on", candidate)
    found = paired_difference_by_group(*scores, seed=seed)
    plain = [{task: [float(score) for score in each] for task, each in of_pages.items()} for of_pages in scores]
    pages = dict(zip(("candidate", LAST), plain, strict=True))
    said = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] (paired 95 % interval, n = {found.n})"
    if found.low > 0:
        why = f"{candidate} is kept: it beats the last snapshot by {said} on pages not used to find it"
        return Choice(candidate, why, candidate, found, pages)
    why = f"the last snapshot is kept: on pages not used to find it, {candidate} scores {said} against it"
    return Choice(LAST, why, candidate, found, pages)
