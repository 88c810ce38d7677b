"""VisionZip: the most looked-at visual tokens stay, the others are merged into a few (arXiv 2412.04467)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fcot.reduce.before import BeforeReducer, Group, Kept, Seen
from fcot.reduce.budget import check_choice, share_of
from fcot.reduce.tower import SCORES

CONTEXTUAL = 10 / 64  # share of the budget, the paper's 54 dominant and 10 contextual
MERGES = ("sum", "mean")


class Visionzip(BeforeReducer):
    """VisionZip keeps dominant tokens by attention, and merges the rest into contextual ones by likeness of keys.

    Args:
        keep: Share of visual tokens that is left, contextual ones counted.
        score: "cls" for the class token's attention, "received" for the mean over all patches.
        merge: "sum" adds the mean of the tokens that join to the one they join, as the reference does; "mean" takes
            the mean of all of them.
        positions: "renumbered" or "original": a contextual token takes the position of the one that others join.

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(
        self, keep: float = 0.5, score: str = "cls", merge: str = "sum", positions: str = "renumbered"
    ) -> None:
        super().__init__(keep=keep, scope="per_tile", positions=positions)
        self.score, self.merge = check_choice("score", score, SCORES), check_choice("merge", merge, MERGES)

    def reduce(self, seen: Seen) -> Kept:
        """Keep and merge in each tile, contextual tokens behind the dominant ones."""

        def zipped(group: Group) -> tuple[Tensor, Tensor]:
            budget = share_of(len(group), self.keep)
            contextual = min(round(budget * CONTEXTUAL), budget - 1)
            kept, targets, merged = dominant_and_contextual(
                group.scores(self.score), group.features, group.keys(), budget - contextual, contextual, self.merge
            )
            return torch.cat([kept, targets]), torch.cat([group.features[kept], merged])

        return self.merged_by_group(seen, zipped)


def dominant_and_contextual(
    scores: Tensor, features: Tensor, keys: Tensor, dominant: int, contextual: int, merge: str = "sum"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the dominant tokens in order, the places of the contextual ones, and their merged features.

    Args:
        scores: `[tokens]`.
        features: `[tokens, width]`.
        keys: Mean over heads `[tokens, head width]`.
        dominant: How many stay as they are.
        contextual: How many the others are merged into.
        merge: "sum" or "mean".
    """
    kept = scores.argsort(descending=True, stable=True)[:dominant].sort().values
    others = torch.ones_like(scores, dtype=torch.bool)
    others[kept] = False
    rest = others.nonzero()[:, 0]
    step = max(1, len(rest) // max(1, contextual))
    centres = torch.arange(0, len(rest), step, device=rest.device)[:contextual]
    if not len(centres):
        return kept, rest[:0], features[:0]
    joins = torch.ones(len(rest), dtype=torch.bool, device=rest.device)
    joins[centres] = False
    rows = normalize(keys[rest].float(), dim=-1)
    to = (rows[joins] @ rows[centres].T).argmax(1)
    target, joined = features[rest[centres]], features[rest[joins]]
    counts = torch.zeros(len(centres), device=rest.device).index_add_(0, to, torch.ones(len(to), device=rest.device))
    total = torch.zeros_like(target, dtype=torch.float32).index_add_(0, to, joined.float())
    if merge == "mean":
        merged = (target.float() + total) / (1 + counts[:, None])
    else:
        merged = target.float() + total / counts.clamp(min=1)[:, None]
    return kept, rest[centres], merged.to(features.dtype)
