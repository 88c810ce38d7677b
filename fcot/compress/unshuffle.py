"""The connector of InternVL3.5-Flash: a larger pixel unshuffle and three linear maps, in place of the projector."""

from typing import Any

import torch
from torch import Tensor, nn

from fcot.compress.windows import WindowCompressor


class Unshuffle(WindowCompressor):
    """Joins the tokens of a compact window and maps them to one language row (InternVL3.5, arXiv 2508.18265).

    At ratio 4 its weights are those of the published connector, `mlp2`. It starts from the teacher's projector: the
    first map averages what the projector's makes of each token, the second is the projector's and its negative, the
    third subtracts the two, for GELU(u) − GELU(−u) = u. That is the projector on the pooled tokens up to one factor a
    window: its norm divides by the deviation of all tokens of a window, the projector's by that of their mean.

    Args:
        ratio: How many tokens become one.
        side: Side of the raster of tokens.
        width: Width of a token.
        language_width: Width H of a language row.
        deviation: The mean of that factor, by which the gain is divided at the start: see `deviation_of`. The default
            was measured at ratio 4 on drawn pages.
        dropout: Share of values dropped after each GELU in training.
    """

    places = ("instead",)

    def __init__(
        self,
        *,
        ratio: int,
        side: int,
        width: int,
        language_width: int,
        deviation: float = 0.73,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.deviation, inner = deviation, 2 * language_width
        self.mlp = nn.Sequential(
            nn.LayerNorm(ratio * width),
            nn.Linear(ratio * width, inner),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(inner, inner),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(inner, language_width),
        )

    def reset_parameters(self) -> None:
        """Draw weights as PyTorch does; `start_from` then makes it the pooled student."""
        self.reset_parts()

    @torch.no_grad()
    def start_from(self, projector: Any) -> None:
        """Start as the teacher's projector on pooled tokens; arguments as in `Compressor`."""
        parts: list[Any] = [*self.mlp]
        norm, first, second, third = parts[0], parts[1], parts[4], parts[7]
        rows = projector.linear_1.out_features
        norm.weight.copy_(self._joined(projector.layer_norm.weight[None])[0] / self.deviation)
        norm.bias.copy_(self._joined(projector.layer_norm.bias[None])[0])
        # the other half of the first map keeps what it was drawn as, and is not read at first: so both halves can learn
        first.weight[:rows] = self._joined(projector.linear_1.weight) / self.ratio
        first.bias[:rows] = projector.linear_1.bias
        second.weight.zero_()
        second.weight[:, :rows] = torch.cat([projector.linear_2.weight, -projector.linear_2.weight])
        second.bias.copy_(torch.cat([projector.linear_2.bias, -projector.linear_2.bias]))
        eye = torch.eye(rows, device=third.weight.device, dtype=third.weight.dtype)
        third.weight.copy_(torch.cat([eye, -eye], dim=1))
        third.bias.zero_()

    def _joined(self, rows: Tensor) -> Tensor:
        """Repeat values of a token's channels `[rows, width]` for each token of a window `[rows, ratio · width]`."""
        return self._unshuffled(rows[:, None, None].expand(-1, 1, self.ratio, -1))[:, 0]

    def _unshuffled(self, grouped: Tensor) -> Tensor:
        """Join the tokens of windows `[tiles, windows, ratio, width]` to `[tiles, windows, ratio · width]`.

        Channels go by row of patches, then by column, as if the tower's raster had been unshuffled once.
        """
        patches = grouped.unflatten(2, self.window).unflatten(4, (2, 2, -1)).transpose(3, 4)
        joined: Tensor = patches.flatten(2)
        return joined

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[tiles, tokens, width]` to language rows `[tiles, tokens // ratio, H]`."""
        rows: Tensor = self.mlp(self._unshuffled(self.grouped(tokens)))
        return rows


def deviation_of(tokens: Tensor, compressor: WindowCompressor) -> float:
    """Return how many times smaller the deviation of a window's mean is than that of all its tokens, as a mean.

    Args:
        tokens: Pixel-shuffled features of some tiles `[tiles, tokens, width]`.
        compressor: Whose windows.
    """
    grouped = compressor.grouped(tokens.float())
    return float((grouped.mean(2).std(-1, correction=0) / grouped.flatten(2).std(-1, correction=0)).mean())
