"""Post-training: every parameter learns on answer tokens (FCoT-VL, section 3.3)."""

from pathlib import Path
from typing import Any

from torch import Tensor

from fcot.batch import Batch
from fcot.errors import UserError
from fcot.models.drop_path import add_drop_path
from fcot.models.student_teacher import PARTS, StudentTeacher, answer_labels, answer_samples
from fcot.training.base_task import BaseTask
from fcot.training.cross_entropy import answer_cross_entropy
from fcot.training.distillation import check_chunk_rows
from fcot.training.loss_weighting import check_reduction, row_weights


class SFT(BaseTask):
    """Post-trains a student, or a teacher at ratio 1 as the control.

    Args:
        checkpoint: Model folder: a student saved by re-alignment, or a native InternVL.
        lr_scale: Factor on the learning rate of a part, such as `{vision: 0.1}`; 1 where not named.
        freeze: Parts that do not learn: vision, projector, llm.
        from_scratch: Start from random weights, with the folder's configuration only.
        drop_path: Chance of skipping a branch of a layer of the vision tower, growing to this in the last one.
        reduction: How answers are weighted in the loss: token: every answer token alike; sample: every sample alike,
            however long its answer; square_root: a sample with n answer tokens counts √n.
        chunk_rows: Answer tokens whose logits exist at a time; bounds memory, not the result.
        checkpoint_activations: Compute layers again in the backward pass instead of keeping what they computed: memory
            for a third more work.
        compile_layers: Compile the layers of vision tower and language model by torch.compile.
        shared: What every task takes: see `BaseTask`.
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

    @property
    def ratio(self) -> int:
        """The folder's own ratio; 1 for a native InternVL."""
        return int(getattr(self.folder.config, "ratio", 1))

    def build(self) -> StudentTeacher:
        """Load the student alone; what is not frozen learns."""
        pair = StudentTeacher(
            self.folder.path, from_scratch=self.from_scratch, checkpointing=self.checkpoint_activations
        )
        pair.train_parts(*(part for part in PARTS if part not in self.frozen_parts))
        add_drop_path(pair.student.model.vision_tower, self.drop_path)
        if self.compile_layers:
            pair.compile_layers()
        return pair

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over answer tokens, their mean weighted as the reduction says."""
        sequences = batch.sequences["student"]
        rows, labels = self.pair.student_rows(batch), answer_labels(sequences)
        weights = row_weights(answer_samples(sequences), len(batch), self.reduction)
        loss, ce_rows = answer_cross_entropy(rows, self.pair.head_weight, labels, weights, chunk_rows=self.chunk_rows)
        return {"loss": loss, "ce_rows": ce_rows, "weight": weights.sum()}
