"""What a reducer before the language model sees of an image, and what it leaves of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fcot.errors import UserError

QUERY_CHUNK = 256  # rows of an attention map that exist at one time


@dataclass(frozen=True)
class Attention:
    """Queries and keys of one layer of the vision tower, as they enter its attention.

    Probabilities are computed from them when asked for, in fp32, and no whole map is ever held.

    Attributes:
        queries: `[T, 1 + P, W]`, the CLS token first.
        keys: `[T, 1 + P, W]`.
        heads: Number of heads that W is divided into.
    """

    queries: Tensor
    keys: Tensor
    heads: int

    def tiles(self, which: slice) -> "Attention":
        """Return the same of some tiles."""
        return Attention(self.queries[which], self.keys[which], self.heads)

    def one_head(self) -> "Attention":
        """Return the same with all heads taken as a single one of width W."""
        return Attention(self.queries, self.keys, 1)

    def probabilities(self, rows: slice) -> Tensor:
        """Return the probabilities of some queries over CLS and patches `[T, heads, rows, 1 + P]`."""
        queries, keys = self._by_head(self.queries[:, rows]), self._by_head(self.keys)
        return (queries @ keys.transpose(2, 3) * float(queries.shape[-1] ** -0.5)).softmax(-1)

    def cls(self) -> Tensor:
        """Return how much the CLS token attends to each patch, mean over heads `[T, P]`."""
        return self.probabilities(slice(0, 1)).mean(1)[:, 0, 1:]

    def received(self) -> Tensor:
        """Return how much each patch is attended to, mean over heads and over all queries `[T, P]`."""
        length = self.queries.shape[1]
        chunks = [slice(start, start + QUERY_CHUNK) for start in range(0, length, QUERY_CHUNK)]
        total = torch.stack([self.probabilities(rows).sum(2) for rows in chunks]).sum(0)
        return total.mean(1)[:, 1:] / length

    def mean_keys(self) -> Tensor:
        """Return the keys of the patches, mean over heads `[T, P, W / heads]`."""
        return self._by_head(self.keys[:, 1:]).mean(1)

    def _by_head(self, states: Tensor) -> Tensor:
        split: Tensor = states.float().unflatten(-1, (self.heads, -1))
        return split.transpose(1, 2)


@dataclass(frozen=True)
class Seen:
    """One image as the vision tower shows it, before the projector.

    Attributes:
        features: `[T, N, C]`: tiles, tokens that the language model would read of each, width.
        project: The projector: `[…, C]` to the language model's `[…, H]`.
        last: Attention of the layer that made the features; None if the reducer does not ask for it.
        behind: Attention of the layer that reads the features where the tower goes on behind them, as LLaVA's does,
            otherwise of the last one; None if the reducer does not ask for it.
        first: Attention of the tower's first layer; None if the reducer does not ask for it.
        grid: Rows and columns of tiles of the image, without the thumbnail; None if not known.
        windows: Which of a compressor's tokens each token of the raster goes into `[raster tokens]`, if the features
            are those of a compressor; each takes as many.
        key: Key of the sample, for seeds.
        image: Which image of the sample it is, from 0, for seeds.
        counted: Which tokens the language model would read, `[T, N]` booleans; None if all of them, as everywhere but
            in LLaVA-NeXT, which removes padding.
        thumbnail: Number of the tile that shows the whole image, where there are several.
    """

    features: Tensor
    project: Callable[[Tensor], Tensor]
    last: Attention | None = None
    behind: Attention | None = None
    first: Attention | None = None
    grid: tuple[int, int] | None = None
    windows: Tensor | None = None
    key: str = ""
    image: int = 0
    counted: Tensor | None = None
    thumbnail: int = -1

    def is_counted(self) -> Tensor:
        """Return which tokens the language model would read `[T, N]`."""
        if self.counted is not None:
            return self.counted
        return torch.ones(self.features.shape[:2], dtype=torch.bool, device=self.features.device)

    def scores(self, kind: str) -> Tensor:
        """Return the attention to each token in the layer that made the features, the sum over its patches `[T, N]`.

        Args:
            kind: "cls" for the attention of the CLS token, "received" for the mean over all queries.
        """
        return self.scores_of(required(self.last, "last"), kind)

    def scores_of(self, attention: Attention, kind: str) -> Tensor:
        """Return the same of a given layer."""
        return self.by_token(attention.cls() if kind == "cls" else attention.received()).sum(2)

    def keys(self) -> Tensor:
        """Return the keys of each token in the layer that made the features `[T, N, width of a head]`.

        They are the mean over heads and over a token's patches.
        """
        return self.keys_of(required(self.last, "last"))

    def keys_of(self, attention: Attention) -> Tensor:
        """Return the same of a given layer."""
        return self.by_token(attention.mean_keys()).mean(2)

    def by_token(self, patches: Tensor) -> Tensor:
        """Group values of patches `[T, P, …]` by the token they become: `[T, N, P / N, …]`."""
        tokens = self.features.shape[1] if self.windows is None else len(self.windows)
        side, block = math.isqrt(patches.shape[1]), math.isqrt(patches.shape[1] // tokens)
        index = patches_of_tokens(side, block)
        if self.windows is not None:
            index = index[self.windows.argsort(stable=True).cpu()].reshape(self.features.shape[1], -1)
        return patches[:, index.to(patches.device)]


@dataclass(frozen=True)
class Kept:
    """What a reducer leaves of one image.

    Attributes:
        rows: `[kept, C]`, or `[kept, H]` if they are projected, in the order in which the language model reads them.
        places: Which of the image's T·N tokens each row stands for `[kept]`; no place stands twice.
        counts: How many rows stand in each tile `[T]`.
        projected: The rows have gone through the projector.
    """

    rows: Tensor
    places: Tensor
    counts: Tensor
    projected: bool = False

    def by_place(self) -> "Kept":
        """Return the same with rows in the order of their places."""
        order = self.places.argsort(stable=True)
        return Kept(self.rows[order], self.places[order], self.counts, self.projected)


def required(attention: Attention | None, name: str) -> Attention:
    """Return a layer's attention, which is there if the reducer has named the layer."""
    if attention is None:
        raise ValueError(f"A reducer that needs the attention of the layer {name!r} names it in its `layers`.")
    return attention


def patches_of_tokens(side: int, block: int = 2) -> Tensor:
    """Return which patches of a tile become which token, both counted row by row.

    Args:
        side: Patches along a side of the tile.
        block: Patches along a side of a token: 2 in InternVL.

    Returns:
        int64 `[(side / block)², block²]`.

    Raises:
        UserError: If the side cannot be divided into such blocks.
    """
    if side % block:
        raise UserError(
            f"A tile of {side}x{side} patches cannot be divided into blocks of {block}x{block}. "
            "Check image_size and downsample_ratio in the checkpoint's config.json."
        )
    raster = torch.arange(side * side).view(side // block, block, side // block, block)
    return raster.transpose(1, 2).reshape(-1, block * block)


def top(scores: Tensor, count: int) -> Tensor:
    """Return the places of the highest scores `[count]`, highest first; of equal ones the lower place comes first."""
    return scores.argsort(descending=True, stable=True)[:count]
