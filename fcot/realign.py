"""Re-alignment: compressor and projector learn to speak as the frozen teacher does (FCoT-VL, section 3.2)."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from fcot.batch import Batch
from fcot.losses import distillation_loss
from fcot.module import PageModule, Parameters
from fcot.pair import StudentTeacher, answer_labels


class Realign(PageModule):
    """Re-aligns a student to its teacher: KL plus cross-entropy on answer tokens.

    Args:
        checkpoint: Folder of the teacher, a native InternVL.
        compressor: Short name of the compressor: conv (the paper's), conv2d, pool, qformer.
        ratio: How many visual tokens become one: 2 halves them, 4 quarters them.
        placement: Compressor "before" the projector, on pixel-shuffled features, or "after" it.
        keep_positions: Visual tokens keep the positions they have in the teacher, a gap after each; otherwise positions
            are counted anew, as in the paper.
        kl_weight: Weight of KL(teacher || student).
        ce_weight: Weight of the cross-entropy with the ground truth.
        temperature: Softens both distributions in the KL.
        chunk_rows: Answer tokens whose logits exist at a time; bounds memory, not the result.
        optimizer: Optimizer of the parameters that learn (default: AdamW).
        warmup: Warm-up steps if 1 or more, otherwise their share of all steps.
        lr_floor: Share of the peak learning rate that remains at the end.
        max_length: Longest sequence in tokens, visual tokens of the teacher counted (default: the model's).
        max_tiles: Most tiles of an image, thumbnail not counted (default: the model's).
        max_new_tokens: Longest answer that is generated in tests and predictions.
        metrics: Metrics of each task, the one that counts first, "*" for tasks not named (default: anls).
        label: Name of this stage in tables (default: "re-aligned").
    """

    stage = "re-aligned"
    has_teacher = True

    def __init__(
        self,
        checkpoint: Path,
        *,
        compressor: str = "conv",
        ratio: int = 2,
        placement: str = "before",
        keep_positions: bool = False,
        kl_weight: float = 1.0,
        ce_weight: float = 1.0,
        temperature: float = 1.0,
        chunk_rows: int = 256,
        optimizer: Callable[[Parameters], Optimizer] = AdamW,
        warmup: float = 0.03,
        lr_floor: float = 0.0,
        max_length: int | None = None,
        max_tiles: int | None = None,
        max_new_tokens: int = 256,
        metrics: dict[str, list[str]] | None = None,
        label: str | None = None,
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
        self.compressor, self.placement, self.keep_positions = compressor, placement, keep_positions
        self.compression_ratio = ratio
        self.kl_weight, self.ce_weight, self.temperature = kl_weight, ce_weight, temperature
        self.chunk_rows = chunk_rows

    @property
    def ratio(self) -> int:
        """How many visual tokens become one in the student."""
        return self.compression_ratio

    def build(self) -> StudentTeacher:
        """Load the teacher and give it a student; projector and compressor learn."""
        pair = StudentTeacher(
            self.folder.path,
            compressor=self.compressor,
            ratio=self.ratio,
            placement=self.placement,
            keep_positions=self.keep_positions,
        )
        pair.train_parts("projector")
        return pair

    def on_fit_start(self) -> None:
        """Print what learns."""
        trains = [f"{name} {list(p.shape)}" for name, p in self.pair.trainable()]
        millions = sum(p.numel() for _, p in self.pair.trainable()) / 1e6
        self.print(f"Re-alignment trains {millions:.2f} M parameters:\n  " + "\n  ".join(trains))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """KL and cross-entropy over answer tokens, each a mean over all of them in the batch."""
        labels = answer_labels(batch.sequences["student"])
        # on the meta device, where FLOPs are counted, labels have no values
        if not labels.is_meta and not torch.equal(labels, answer_labels(batch.sequences["teacher"])):
            raise RuntimeError(f"Teacher and student differ in their answer tokens in batch {batch.keys[:3]} …")
        features = self.pair.features(batch.tiles)
        teacher = self.pair.teacher_rows(batch, features)
        student = self.pair.student_rows(batch, features)
        result = distillation_loss(
            student,
            teacher,
            self.pair.head_weight,
            labels,
            kl_weight=self.kl_weight,
            ce_weight=self.ce_weight,
            temperature=self.temperature,
            chunk_rows=self.chunk_rows,
        )
        return {
            "loss": result.loss,
            "kl": result.kl,
            "ce": result.ce,
            "agreement": result.agreement,
            "ce_rows": result.ce_rows,
        }
