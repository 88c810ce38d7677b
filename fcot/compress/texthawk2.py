"""TextHawk2's cascade: queries of 2x2 patches look at the whole tile, then neighbours of a row are joined.

Papers: arXiv 2410.05261 and 2404.09204. Their repository has no code of the model, so this follows their text; where
they learn positions of queries, both queries and keys have fixed sine positions here.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from fcot.compress.attention import Attention, heads_of
from fcot.compress.compressor import Compressor
from fcot.compress.features import Features, as_features
from fcot.compress.sine_positions import sine_positions
from fcot.compress.windows import in_windows, raw_raster
from fcot.errors import UserError


class CascadeLayer(nn.Module):
    """A decoder layer, normalising first: self-attention, attention to the tower's patches, an MLP.

    Args:
        width: Width of queries and patches.
        attends_itself: Whether it has self-attention; the first layer has none.
    """

    def __init__(self, width: int, attends_itself: bool) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width) if attends_itself else None
        self.self_attention = Attention(width, heads_of(width)) if attends_itself else None
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads_of(width))
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries: Tensor, patches: Tensor, places: Tensor, patch_places: Tensor) -> Tensor:
        """Return queries of the same shape `[tiles, queries, width]`.

        Args:
            queries: `[tiles, queries, width]`.
            patches: `[tiles, patches, width]`.
            places: Positions of the queries `[queries, width]`.
            patch_places: Positions of the patches `[patches, width]`.
        """
        if self.self_attention is not None and self.self_norm is not None:
            normed = self.self_norm(queries)
            queries = queries + self.self_attention(normed + places, normed + places, normed)
        queries = queries + self.attention(self.norm(queries) + places, patches + patch_places, patches)
        done: Tensor = queries + self.mlp(self.mlp_norm(queries))
        return done


class Cascade(nn.Module):
    """The decoder: `depth` layers, each reading one layer of the vision tower.

    Args:
        width: Width of queries and patches.
        depth: Number of layers.
    """

    def __init__(self, width: int, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CascadeLayer(width, number > 0) for number in range(depth))

    def forward(self, queries: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Return queries of the same shape `[tiles, queries, width]`.

        Args:
            queries: A square raster.
            levels: For each layer the patches that it reads, a square raster `[tiles, patches, width]`.
        """
        width = queries.shape[2]
        places, patch_places = (
            sine_positions(width, int(raster.shape[1] ** 0.5), queries.device).to(queries)
            for raster in (queries, levels[0])
        )
        for layer, patches in zip(self.layers, levels, strict=True):
            queries = layer(queries, patches, places, patch_places)
        return queries


class Texthawk2(Compressor):
    """Mean of neighbours in a row, plus the cascade, whose joining map starts at zero.

    Its queries are the means of 2x2 patches, that is one for each token; the original's max pooling behind an MLP
    cannot start as a mean.

    Args:
        ratio: How many tokens become one.
        side: Side of the raster of tokens.
        width: Width of a token, four patches.
        depth: Layers of the decoder.
        levels: For each layer of the decoder the layer of the vision tower that it reads, the deepest first; by default
            all read the last.
    """

    places = ("before",)

    def __init__(self, *, ratio: int, side: int, width: int, depth: int = 4, levels: Sequence[int] = ()) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        if levels and len(levels) != depth:
            raise UserError(
                f"texthawk2 has {depth} layers and {len(levels)} levels ({list(levels)}).\nGive a level for each layer."
            )
        self.levels = tuple(levels)
        self.cascade = Cascade(width // 4, depth)
        self.join = nn.Linear(ratio * (width // 4), width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of neighbours in raster order."""
        self.reset_parts()
        self.start_at_zero(self.join)

    @classmethod
    def windows(cls, ratio: int, side: int) -> np.ndarray:
        """Group neighbours in raster order."""
        return np.arange(side * side).reshape(side, side) // ratio

    def forward(self, tokens: Tensor | Features) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        features = as_features(tokens)
        read = [features.levels[level] for level in self.levels] or [features.tokens] * len(self.cascade.layers)
        patches = [raw_raster(level, self.side).flatten(1, 2) for level in read]
        queries = features.tokens.unflatten(-1, (4, -1)).mean(2)
        found = self.cascade(queries, patches)
        pooled = features.tokens.unflatten(1, (-1, self.ratio)).mean(2)
        compressed: Tensor = pooled + self.join(found.unflatten(1, (-1, self.ratio)).flatten(2))
        return compressed


class Texthawk2Resampler(nn.Module):
    """The resampler as published: queries from an MLP and max pooling, the cascade, joining four of a row.

    Args:
        width: Width of a patch.
        language_width: Width of a language row.
        depth: Layers of the decoder.
        joined: Neighbours of a row that become one.
    """

    def __init__(self, width: int, language_width: int, depth: int = 4, joined: int = 4) -> None:
        super().__init__()
        self.joined = joined
        self.propose = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width))
        self.query = nn.Linear(4 * width, width)
        self.cascade = Cascade(width, depth)
        self.join = nn.Linear(joined * width, language_width)

    def forward(self, patches: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Return `[tiles, patches / 4 / joined, language_width]`.

        Args:
            patches: A square raster of the last layer `[tiles, patches, width]`.
            levels: For each layer of the decoder the patches that it reads, of the same shape.
        """
        side = int(patches.shape[1] ** 0.5)
        proposed = in_windows(self.propose(patches), 2, 2, side).amax(2)
        found = self.cascade(self.query(proposed), levels)
        rows: Tensor = self.join(found.unflatten(1, (-1, self.joined)).flatten(2))
        return rows
