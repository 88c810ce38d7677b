"""TokenPacker: coarse queries look at the fine tokens of their own window (arXiv 2407.02392).

Written from the paper's formulas; its repository has no licence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcot.compress.attention import Attention, heads_of
from fcot.compress.features import Features, as_features
from fcot.compress.windows import WindowCompressor, in_windows


class WindowAttention(nn.Module):
    """Each query attends to the tokens of its window.

    Args:
        width: Width of a query.
        key_width: Width of what keys and values are made of.
        inner: Width of the attention.
    """

    def __init__(self, width: int, key_width: int, inner: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, inner, bias=False)
        self.query_norm, self.key_norm, self.value_norm = (nn.LayerNorm(inner, eps=1e-6) for _ in range(3))
        self.key = nn.Sequential(nn.Linear(key_width, inner), nn.GELU(), nn.Linear(inner, inner))
        self.value = nn.Sequential(nn.Linear(key_width, inner), nn.GELU(), nn.Linear(inner, inner))
        self.attention = Attention(inner, heads_of(inner))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear maps from N(0, 0.02²), with biases of zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, queries: Tensor, windows: Tensor) -> Tensor:
        """Return `[tiles, windows, inner]`.

        Args:
            queries: `[tiles, windows, width]`.
            windows: Tokens of each window `[tiles, windows, tokens, key_width]`.
        """
        query = self.query_norm(self.query(queries)).flatten(0, 1)[:, None]
        key, value = self.key_norm(self.key(windows)), self.value_norm(self.value(windows))
        found: Tensor = self.attention(query, key.flatten(0, 1), value.flatten(0, 1))
        unfolded: Tensor = found[:, 0].unflatten(0, queries.shape[:2])
        return unfolded


class TokenPacker(WindowCompressor):
    """Mean of a compact window, plus what it finds among its own tokens by attention; that starts at zero.

    Args:
        ratio: How many tokens become one.
        side: Side of the raster of tokens.
        width: Width of a token.
        inner: Width of the attention; None for a quarter of a token's.
        levels: Layers of the vision tower from which keys and values are made, [12, 16, 22, 23] in the paper; by
            default they are made from the tokens.
    """

    def __init__(
        self, *, ratio: int, side: int, width: int, inner: int | None = None, levels: Sequence[int] = ()
    ) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.levels = tuple(levels)
        inner = inner or max(1, width // 4)
        self.branch = WindowAttention(width, width * max(1, len(self.levels)), inner)
        self.output = nn.Linear(inner, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        self.reset_parts()
        self.start_at_zero(self.output)

    def forward(self, tokens: Tensor | Features) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        features = as_features(tokens)
        fine = torch.cat([features.levels[level] for level in self.levels], -1) if self.levels else features.tokens
        pooled = self.pooled(features.tokens)
        compressed: Tensor = pooled + self.output(self.branch(pooled, self.grouped(fine)))
        return compressed


class TokenPackerProjector(nn.Module):
    """The projector as published: queries by bilinear interpolation, keys of several levels, an MLP at the end.

    Args:
        width: Width of a patch.
        language_width: Width of a language row.
        scale: Side of a window in patches.
        num_levels: Layers of the vision tower that are joined.
    """

    def __init__(self, width: int, language_width: int, scale: int, num_levels: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.branch = WindowAttention(width, num_levels * width, width)
        self.mlp = nn.Sequential(nn.Linear(width, language_width), nn.GELU(), nn.Linear(language_width, language_width))

    def forward(self, patches: Tensor, levels: Tensor) -> Tensor:
        """Return `[tiles, patches / scale², language_width]`.

        Args:
            patches: A square raster of the last layer `[tiles, patches, width]`.
            levels: The same raster of all levels, joined `[tiles, patches, levels · width]`.
        """
        side = int(patches.shape[1] ** 0.5)
        raster = patches.transpose(1, 2).unflatten(2, (side, side))
        # at 1/4 this is the mean of the middle 2x2 of 4x4
        coarse = functional.interpolate(raster, scale_factor=1 / self.scale, mode="bilinear")
        queries = coarse.flatten(2).transpose(1, 2)
        packed: Tensor = self.mlp(self.branch(queries, in_windows(levels, self.scale, self.scale, side)))
        return packed
