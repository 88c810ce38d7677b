"""InternVL's projector with a compressor inside: from vision features to the language model's visual tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector

from fcot.compress import Compressor, Elastic, Features
from fcot.compress.elastic import in_order
from fcot.errors import UserError
from fcot.models.routing import LEARNED, Routing
from fcot.models.token_counts import compressor_of
from fcot.models.vision import split_levels
from fcot.route import Router


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
        self.width = self.linear_1.in_features  # vLLM replaces the layer by one of its own, which does not say

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
        return self._compressed(self.compressor, features, text, *((counts,) if self.compressor.varies else ()))

    def _compressed(
        self, compressor: Compressor, features: Tensor, text: tuple[Tensor, Tensor] | None, *counts: Any
    ) -> Tensor:
        own, levels = split_levels(features, compressor.levels, self.width)
        tokens = super().forward(own) if self.placement == "after" else own
        seen = Features(tokens, levels, *(text or ())) if compressor.reads_features else tokens
        compressed: Tensor = compressor(seen, *counts)
        return compressed

    def rows_of(self, tokens: Tensor) -> Tensor:
        """Return language rows `[…, H]` of the compressor's tokens."""
        rows: Tensor = super().forward(tokens) if self.placement == "before" else tokens
        return rows


class ElasticProjector(CompressedProjector):
    """A projector whose tiles have a ratio each: the teacher's own at ratio 1, one for all compressed tokens.

    Args:
        config: Configuration of an elastic student.

    Attributes:
        compressor: One for each ratio.
        whole: The teacher's projector, so that a page at ratio 1 is read as the teacher reads it.
        router: The learned router, if the student has one.
        routing: Gives tiles their numbers of visual tokens.
    """

    compressor: Elastic

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.whole = InternVLMultiModalProjector(config)
        self.router: Router | None = None
        self.set_router(config.router)

    def set_router(self, settings: Mapping[str, Any] | None) -> None:
        """Take a router of these settings, `router` of a configuration; a learned one has initial weights."""
        learned = (settings or {}).get("kind") == LEARNED
        width, ratios = self.linear_1.in_features, len(self.compressor.ratios)
        self.router = Router(width, ratios, (settings or {})["hidden"]) if learned else None
        self.routing = Routing(self.compressor, settings, self.router)

    def forward(
        self, image_features: Tensor, counts: Sequence[int] | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Map pixel-shuffled features `[tiles, N, C]` to the language rows of all tiles `[sum(counts), H]`.

        Every compressor runs, also on no tile, so that all parameters have gradients whatever the ratios are.

        Args:
            image_features: Features of the vision tower; those of levels that compressors read are joined behind.
            counts: Tokens of each tile (default: those of the configuration's ratio).
            text: Not used.

        Raises:
            UserError: If no ratio gives a tile its number of tokens.
        """
        if counts is None:
            counts = self.compressor.counts(image_features).tolist()
        tiles = self.compressor.tiles_by_ratio(counts)
        rows = {}
        for ratio, its in tiles.items():
            features = image_features if len(its) == len(counts) else image_features[its]
            if ratio == 1:
                own = features[..., : self.width]
                rows[ratio] = self.whole(own.to(self.whole.linear_1.weight.dtype))
            else:
                rows[ratio] = self.rows_of(self._compressed(self.compressor.part(ratio), features, None))
        return in_order(rows, tiles, counts)

    def tokens_of(
        self, features: Tensor, counts: Sequence[int] | None = None, text: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Refuse: the tokens of tiles at ratio 1 and of others take different ways to language rows.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "Visual tokens of an elastic student cannot be reduced before the language model.\n"
            "Ask for fewer visual tokens, or take a reducer that acts inside the language model, such as fastv."
        )


def projector_of(config: Any) -> CompressedProjector:
    """Build the projector of a student's configuration."""
    return ElasticProjector(config) if getattr(config, "ratios", None) else CompressedProjector(config)


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
