"""InternVL's projector with a compressor inside: from vision features to the language model's visual tokens."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector

from fcot.compress import Features
from fcot.errors import UserError
from fcot.models.token_counts import compressor_of
from fcot.models.vision import split_levels


class CompressedProjector(InternVLMultiModalProjector):
    """InternVL's projector with a compressor before it, after it, or in its place.

    A compressor in its place maps to language rows by itself. The teacher's projector is then kept, unused.

    Args:
        config: Configuration of the student.

    Raises:
        UserError: If the compressor, its ratio or its placement is unknown.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.compressor = compressor_of(config)
        self.placement = config.placement

    def forward(
        self, image_features: Tensor, counts: Sequence[int] | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Map pixel-shuffled features `[tiles, N, C]` to language rows `[tiles, N // ratio, H]`.

        Args:
            image_features: Features of the vision tower; those of levels that the compressor reads are joined behind.
            counts: Tokens of each tile if they may differ; the result is then the rows of all tiles, concatenated,
                `[sum(counts), H]`.
            text: Embeddings of the question about each tile, and their mask, if the compressor reads it.

        Raises:
            UserError: If tiles may differ and counts are not given, or levels or text are missing.
        """
        if self.compressor.varies and counts is None:
            raise UserError(
                "This student gives tiles different numbers of visual tokens, and tile_tokens is missing.\n"
                "Pass on tile_tokens, which its processor returns."
            )
        return self.rows_of(self.tokens_of(image_features, counts, text))

    def tokens_of(
        self, features: Tensor, counts: Sequence[int] | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return the compressor's tokens, which are language rows unless it stands before; arguments as above."""
        given = (counts,) if self.compressor.varies else ()
        own, levels = split_levels(features, self.compressor.levels, self.linear_1.in_features)
        tokens = super().forward(own) if self.placement == "after" else own
        seen = Features(tokens, levels, *(text or ())) if self.compressor.reads_features else tokens
        compressed: Tensor = self.compressor(seen, *given)
        return compressed

    def rows_of(self, tokens: Tensor) -> Tensor:
        """Return language rows `[…, H]` of the compressor's tokens."""
        rows: Tensor = super().forward(tokens) if self.placement == "before" else tokens
        return rows


def visual_tokens(
    projector: Any, features: Tensor, counts: Sequence[int], text: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return the visual tokens of tiles, `[tiles, tokens, H]`, or `[tokens, H]` where their numbers may differ.

    Args:
        projector: Projector of a student or of a native InternVL.
        features: Pixel-shuffled features `[tiles, N, C]`, those of levels that a student reads joined behind.
        counts: Tokens of each tile; used where tiles differ.
        text: Embeddings of the question about each tile, and their mask, for a student that reads it.
    """
    features = features.to(projector.linear_1.weight.dtype)
    if isinstance(projector, CompressedProjector):
        visual: Tensor = projector(features, counts if projector.compressor.varies else None, text)
    else:
        visual = projector(features[..., : projector.linear_1.in_features])
    return visual
