"""InternVL's projector with a compressor inside: from vision features to the language model's visual tokens."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector

from fcot.errors import UserError
from fcot.models.token_counts import compressor_of


class CompressedProjector(InternVLMultiModalProjector):
    """InternVL's projector with a compressor before or after it.

    Args:
        config: Configuration of the student.

    Raises:
        UserError: If the compressor, its ratio or its placement is unknown.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.compressor = compressor_of(config)
        self.placement = config.placement

    def forward(self, image_features: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Map pixel-shuffled features `[tiles, N, C]` to language rows `[tiles, N // ratio, H]`.

        Args:
            image_features: Features of the vision tower.
            counts: Tokens of each tile if they may differ; the result is then the rows of all tiles, concatenated,
                `[sum(counts), H]`.

        Raises:
            UserError: If tiles may differ and counts are not given.
        """
        if self.compressor.varies and counts is None:
            raise UserError(
                "This student gives tiles different numbers of visual tokens, and tile_tokens is missing.\n"
                "Pass on tile_tokens, which its processor returns."
            )
        return self.rows_of(self.tokens_of(image_features, counts))

    def tokens_of(self, features: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Return the compressor's tokens, projected already if it stands behind the projector; arguments as above."""
        given = (counts,) if self.compressor.varies else ()
        tokens = features if self.placement == "before" else super().forward(features)
        compressed: Tensor = self.compressor(tokens, *given)
        return compressed

    def rows_of(self, tokens: Tensor) -> Tensor:
        """Return language rows `[…, H]` of the compressor's tokens."""
        rows: Tensor = super().forward(tokens) if self.placement == "before" else tokens
        return rows


def visual_tokens(projector: Any, features: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the visual tokens of tiles, `[tiles, tokens, H]`, or `[tokens, H]` where their numbers may differ.

    Args:
        projector: Projector of a student or of a native InternVL.
        features: Pixel-shuffled features `[tiles, N, C]`.
        counts: Tokens of each tile; used where tiles differ.
    """
    features = features.to(projector.linear_1.weight.dtype)
    varies = isinstance(projector, CompressedProjector) and projector.compressor.varies
    visual: Tensor = projector(features, counts) if varies else projector(features)
    return visual
