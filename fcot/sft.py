"""Post-training: every parameter learns on answer tokens (FCoT-VL, section 3.3)."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.optim import AdamW, Optimizer

from fcot.batch import Batch
from fcot.drop_path import add_drop_path
from fcot.errors import UserError
from fcot.losses import answer_cross_entropy
from fcot.module import PageModule, Parameters
from fcot.pair import PARTS, StudentTeacher, answer_labels


class SFT(PageModule):
    """Post-trains a student, or a teacher at ratio 1 as the control.

    Args:
        checkpoint: Model folder: a student saved by re-alignment, or a native InternVL.
        optimizer: Optimizer of the parameters that learn (default: AdamW).
        lr_scale: Factor on the learning rate of a part, such as `{vision: 0.1}`; 1 where not named.
        freeze: Parts that do not learn: vision, projector, llm.
        from_scratch: Start from random weights, with the folder's configuration only.
        warmup: Warm-up steps if 1 or more, otherwise their share of all steps.
        lr_floor: Share of the peak learning rate that remains at the end.
        max_length: Longest sequence in tokens, visual tokens of the teacher counted (default: the model's).
        max_tiles: Most tiles of an image, thumbnail not counted (default: the model's).
        max_new_tokens: Longest answer that is generated in tests and predictions.
        metrics: Metrics of each task, the one that counts first, "*" for tasks not named (default: anls).
        label: Name of this stage in tables (default: "sft").
        drop_path: Chance of skipping a branch of a layer of the vision tower, growing to this in the last one.
    """

    stage = "sft"
    has_teacher = False

    def __init__(
        self,
        checkpoint: Path,
        *,
        optimizer: Callable[[Parameters], Optimizer] = AdamW,
        lr_scale: dict[str, float] | None = None,
        freeze: list[str] | None = None,
        from_scratch: bool = False,
        warmup: float = 0.03,
        lr_floor: float = 0.0,
        max_length: int | None = None,
        max_tiles: int | None = None,
        max_new_tokens: int = 256,
        metrics: dict[str, list[str]] | None = None,
        label: str | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(
            checkpoint,
            optimizer=optimizer,
            warmup=warmup,
            lr_floor=lr_floor,
            max_length=max_length,
            max_tiles=max_tiles,
            max_new_tokens=max_new_tokens,
            metrics=metrics,
            label=label,
        )
        self.lr_scale, self.frozen_parts = lr_scale or {}, freeze or []
        unknown = (set(self.lr_scale) | set(self.frozen_parts)) - set(PARTS)
        if unknown:
            raise UserError(f"There is no part {sorted(unknown)}. Parts are {', '.join(PARTS)}.")
        self.from_scratch, self.drop_path = from_scratch, drop_path

    @property
    def ratio(self) -> int:
        """The folder's own ratio; 1 for a native InternVL."""
        return int(getattr(self.folder.config, "ratio", 1))

    def build(self) -> StudentTeacher:
        """Load the student alone; what is not frozen learns."""
        pair = StudentTeacher(self.folder.path, from_scratch=self.from_scratch)
        pair.train_parts(*(part for part in PARTS if part not in self.frozen_parts))
        add_drop_path(pair.student.model.vision_tower, self.drop_path)
        return pair

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over answer tokens, a mean over all of them in the batch."""
        rows = self.pair.student_rows(batch)
        labels = answer_labels(batch.sequences["student"])
        ce_rows = answer_cross_entropy(rows, self.pair.head_weight, labels)
        return {"loss": ce_rows.sum() / max(1, len(labels)), "ce_rows": ce_rows}
