"""Clusters of tokens by density peaks (DPC-KNN), as SparseVLM merges what it drops."""

from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    """Clusters of tokens.

    Attributes:
        means: In fp32 `[clusters, width]`.
        centres: Which token is the centre of each `[clusters]`.
    """

    means: Tensor
    centres: Tensor


def density_peaks(states: Tensor, clusters: int) -> Clusters:
    """Merge tokens into clusters around those that are dense and far from denser ones.

    The density of a token is exp(-mean of its least squared distances to as many tokens as there are clusters, itself
    included). The original adds noise to tell equal densities apart; here the lower place counts as denser.

    Args:
        states: `[tokens, width]`.
        clusters: How many, at most as many as tokens.
    """
    with torch.no_grad():
        exact = states.float()
        apart = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist") / states.shape[1] ** 0.5
        density = (-apart.topk(clusters, largest=False).values.square().mean(1)).exp()
        place = torch.arange(len(states), device=states.device)
        denser = (density > density[:, None]) | ((density == density[:, None]) & (place < place[:, None]))
        reach = apart.masked_fill(~denser, torch.inf).min(1).values.clamp(max=float(apart.max()))
        centres = (reach * density).argsort(descending=True, stable=True)[:clusters]
        nearest = apart[centres].argmin(0)
        nearest[centres] = torch.arange(clusters, device=states.device)
        member = torch.nn.functional.one_hot(nearest, clusters).T.float()
    return Clusters(member @ states.float() / member.sum(1, keepdim=True), centres)
