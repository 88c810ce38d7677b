"""Post-training: train every parameter on answer tokens (FCoT-VL, section 3.3)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcot.batch import Batch
from fcot.compress import Elastic
from fcot.errors import UserError
from fcot.internvl.drawn_tokens import DrawnTokens
from fcot.models.branches import STUDENT
from fcot.models.drop_path import add_drop_path
from fcot.models.routed_tokens import RoutedTokens
from fcot.models.student_teacher import PARTS, StudentTeacher, answer_labels, answer_samples
from fcot.models.token_counts import TokenCounts
from fcot.training.base_task import BaseTask
from fcot.training.cross_entropy import answer_cross_entropy
from fcot.training.distillation import check_chunk_rows
from fcot.training.loss_weighting import check_reduction, row_weights


class SFT(BaseTask):
    """Post-trains a student or, as a control, a teacher (ratio 1).

    Args:
        checkpoint: Model folder: a student saved by re-alignment, or a native InternVL.
        lr_scale: Factors on the learning rates of parts, such as `{vision: 0.1}`; 1 for parts not named.
        freeze: Parts that are not trained: vision, projector, llm.
        from_scratch: Start from random weights, with only the folder's configuration.
        drop_path: Probability of skipping a residual branch in the vision tower's last layer; it grows linearly from 0.
        reduction: Weights in the loss. token: equal for all answer tokens; sample: equal for all samples, however long
            the answer; square_root: √n for a sample with n answer tokens.
        chunk_rows: Answer tokens whose logits exist at a time; affects memory, not the result.
        checkpoint_activations: Recompute layers in the backward pass instead of storing activations: less memory, a
            third more work.
        compile_layers: Compile the layers of vision tower and language model with torch.compile.
        uncompressed: Share of the pages that an elastic student reads at ratio 1 in training; for the rest, its other
            ratios are drawn evenly. Other students have one ratio.
        routed: Share of the pages whose tiles have ratios of their own in training, by the rule of a student's router
            at a price that is drawn; the other pages as `uncompressed` says. Students without a router have none.
        visual_tokens: Visual tokens of a tile in validation, tests and predictions of an elastic student, such as 64
            (default: those of its first ratio).
        shared: Arguments of every task: see `BaseTask`.
    """

    stage = "sft"
    has_teacher = False

    def __init__(
        self,
        checkpoint: Path,
        *,
        lr_scale: dict[str, float] | None = None,
        freeze: list[str] | None = None,
        from_scratch: bool = False,
        drop_path: float = 0.0,
        reduction: str = "token",
        chunk_rows: int = 1024,
        checkpoint_activations: bool = False,
        compile_layers: bool = False,
        uncompressed: float = 0.25,
        routed: float = 0.5,
        visual_tokens: int | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(checkpoint, **shared)
        self.lr_scale, self.frozen_parts = lr_scale or {}, freeze or []
        unknown = (set(self.lr_scale) | set(self.frozen_parts)) - set(PARTS)
        if unknown:
            raise UserError(f"There is no part {sorted(unknown)}. Parts are {', '.join(PARTS)}.")
        self.from_scratch, self.drop_path = from_scratch, drop_path
        self.reduction, self.chunk_rows = check_reduction(reduction), check_chunk_rows(chunk_rows)
        self.checkpoint_activations, self.compile_layers = checkpoint_activations, compile_layers
        if not 0 <= uncompressed <= 1:
            raise UserError(f"uncompressed is {uncompressed}.\nGive a share of the pages between 0 and 1.")
        if not 0 <= routed <= 1:
            raise UserError(f"routed is {routed}.\nGive a share of the pages between 0 and 1.")
        self.uncompressed, self.routed, self.visual_tokens = uncompressed, routed, visual_tokens

    @property
    def ratio(self) -> int:
        """The folder's own ratio, or that of the visual tokens asked for; 1 for a native InternVL."""
        if self.visual_tokens is None:
            return int(getattr(self.folder.config, "ratio", 1))
        counts = self._counts
        return counts.ratio_of(torch.tensor([counts.most]))

    @property
    def _counts(self) -> TokenCounts:
        return TokenCounts(self.folder.config, self.visual_tokens)

    @property
    def drawn_tokens(self) -> dict[str, DrawnTokens]:
        """Visual tokens of the pages of an elastic student: a ratio for each page, or for each tile by its router."""
        counts = self._counts
        whole, *fewer = counts.choices
        if not fewer:
            return {}
        shares = {whole: self.uncompressed, **dict.fromkeys(fewer, (1 - self.uncompressed) / len(fewer))}
        settings = getattr(self.folder.config, "router", None)
        if settings and isinstance(counts.compressor, Elastic):
            given = {"otherwise": counts.most, "elastic": counts.compressor, "settings": settings}
            return {STUDENT: RoutedTokens(shares, routed=self.routed, **given)}
        return {STUDENT: DrawnTokens(shares, by_tile=False, otherwise=counts.most)}

    def build(self) -> StudentTeacher:
        """Load the student alone, with all but the frozen parts trainable."""
        pair = StudentTeacher(
            self.folder.path, from_scratch=self.from_scratch, checkpointing=self.checkpoint_activations
        )
        pair.train_parts(*(part for part in PARTS if part not in self.frozen_parts))
        add_drop_path(pair.student.model.vision_tower, self.drop_path)
        if self.compile_layers:
            pair.compile_layers()
        return pair

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of answer tokens, averaged with the weights of the reduction."""
        sequences = batch.sequences["student"]
        rows, labels = self.pair.student_rows(batch), answer_labels(sequences)
        weights = row_weights(answer_samples(sequences), len(batch), self.reduction)
        loss, ce_rows = answer_cross_entropy(rows, self.pair.head_weight, labels, weights, chunk_rows=self.chunk_rows)
        return {"loss": loss, "ce_rows": ce_rows, "weight": weights.sum()}
