"""Matryoshka query transformer: the first n of an ordered set of queries (MQT-LLaVA, arXiv 2405.19315)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcot.compress.attention import Attention
from fcot.compress.compressor import Compressor
from fcot.compress.sine_positions import sine_positions


class MatryoshkaQueries(nn.Module):
    """The module as published: one attention from ordered queries, of which the first n are used.

    Its keys are positions alone, so the attention is the same for every image: a learned linear pooling.

    Args:
        width: Width of tokens and queries.
        out: Width of the result.
        query_side: Side of the square raster of queries (16 in the original).
        heads: Attention heads (16 in the original).
    """

    def __init__(self, width: int, out: int, query_side: int, heads: int) -> None:
        super().__init__()
        self.query_side = query_side
        self.query = nn.Parameter(torch.empty(query_side**2, width))
        self.ln_q, self.ln_k, self.ln_v = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attn = Attention(width, heads)
        self.proj = nn.Parameter(torch.empty(width, out))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw queries and the last map; the layers have weights already."""
        nn.init.normal_(self.query, std=0.02)
        nn.init.normal_(self.proj, std=self.proj.shape[0] ** -0.5)

    def forward(self, tokens: Tensor, count: int) -> Tensor:
        """Map a square raster `[tiles, tokens, width]` to `[tiles, count, out]`."""
        side, width = int(tokens.shape[1] ** 0.5), tokens.shape[2]
        # the original keeps positions in half precision
        places = sine_positions(width, self.query_side, tokens.device).half().to(tokens)
        queries = self.ln_q(self.query[:count] + places[:count])
        keys = self.ln_k(resized(places, self.query_side, side))
        every = (len(tokens), -1, -1)
        attended = self.attn(queries.expand(every), keys.expand(every), self.ln_v(tokens))
        found: Tensor = attended @ self.proj
        return found


def resized(places: Tensor, side: int, new: int) -> Tensor:
    """Return positions `[side², width]` of a raster of another side, by bicubic interpolation `[new², width]`."""
    if side == new:
        return places
    raster = places.T.unflatten(1, (side, side))[None]
    larger = functional.interpolate(raster.float(), size=(new, new), mode="bicubic", align_corners=False)
    return larger[0].flatten(1).T.to(places)


class Mqt(Compressor):
    """Mean of neighbours in raster order, plus the first `tokens // ratio` queries, whose last map starts at zero.

    There are as many queries as tokens, so that its weights fit every ratio.

    Args:
        ratio: How many tokens become one.
        side: Side of the raster of tokens.
        width: Width of a token.
        inner: Width of the attention; None for a quarter of a token's.
    """

    def __init__(self, *, ratio: int, side: int, width: int, inner: int | None = None) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        inner = inner or max(1, width // 4)
        heads = inner // 64 if inner % 64 == 0 else 1
        self.narrow = nn.Linear(width, inner)
        self.queries = MatryoshkaQueries(inner, width, side, heads)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of neighbours in raster order."""
        self.reset_parts()
        nn.init.zeros_(self.queries.proj)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        pooled = tokens.unflatten(1, (-1, self.ratio)).mean(2)
        compressed: Tensor = pooled + self.queries(self.narrow(tokens), pooled.shape[1])
        return compressed
