"""One cross-attention from learned queries: the paper's Q-Former (FCoT-VL, Table 3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcot.compress.compressor import Compressor


class Qformer(Compressor):
    """`tokens // ratio` learned queries attend to all tokens of their tile once.

    Heads are 64 wide if the width is a multiple of 64; otherwise there is one head.
    """

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        self.heads = width // 64 if width % 64 == 0 else 1
        self.queries = nn.Parameter(torch.empty(side * side // ratio, width))
        self.positions = nn.Parameter(torch.empty(side * side, width))
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw queries and positions from N(0, 0.02²), the rest by PyTorch's defaults."""
        nn.init.normal_(self.queries, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        for module in (self.norm, self.query, self.key_value, self.output):
            module.reset_parameters()

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        normed = self.norm(tokens)
        queries = self.query(self.queries).expand(len(tokens), -1, -1)
        keys = normed + self.positions
        key, value = self.key_value(keys).chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(self._split(queries), self._split(key), self._split(value))
        projected: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return projected

    def _split(self, tokens: Tensor) -> Tensor:
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads
