"""Multi-head attention with a map for each of queries, keys and values."""

from torch import Tensor, nn
from torch.nn import functional

HEAD_WIDTH = 128


def heads_of(width: int) -> int:
    """Return how many heads of 128 fit a width; one head if it is no multiple."""
    return width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 1


class Attention(nn.Module):
    """Multi-head attention; all maps have a bias, as in PyTorch's `MultiheadAttention`.

    Args:
        width: Width of queries, keys, values and result.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return `[batch, queries, width]` for queries of that shape and as many keys as values."""
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(queries)), self._split(self.key(keys)), self._split(self.value(values))
        )
        found: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return found

    def _split(self, tokens: Tensor) -> Tensor:
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads
