"""What a compressor may read besides the tokens of a tile."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Tokens of tiles, and what some compressors read beside them.

    Attributes:
        tokens: `[tiles, N, C]`.
        levels: Tokens after earlier layers of the vision tower `[tiles, N, 4·W]`, pixel-shuffled like the last one's,
            by the number of the layer.
        text: Embeddings of the question about each tile's page `[tiles, words, H]`, padded to the longest.
        text_mask: Which of them are words, bool `[tiles, words]`.
    """

    tokens: Tensor
    levels: Mapping[int, Tensor] = field(default_factory=dict)
    text: Tensor | None = None
    text_mask: Tensor | None = None


def as_features(given: Tensor | Features) -> Features:
    """Return features of tokens alone `[tiles, N, C]`, or those given."""
    return given if isinstance(given, Features) else Features(given)
