"""Re-alignment: train compressor and projector to match the frozen teacher's outputs (FCoT-VL, section 3.2)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fcot.batch import Batch
from fcot.errors import UserError
from fcot.internvl.drawn_tokens import DrawnTokens
from fcot.models.branches import MIXED, STUDENT, student_branches
from fcot.models.spec import StudentSpec
from fcot.models.student_config import student_config
from fcot.models.student_teacher import StudentTeacher, answer_labels
from fcot.models.token_counts import TokenCounts
from fcot.route.fit import MixedPages
from fcot.training.base_task import BaseTask
from fcot.training.distillation import DistillationLoss, check_chunk_rows, distillation_losses
from fcot.training.mixed_log import pages_of_step


class Realign(BaseTask):
    """Re-aligns a student to its teacher: KL plus cross-entropy on answer tokens.

    Args:
        checkpoint: Folder of the teacher, a native InternVL.
        compressor: Short name of the compressor: conv (the paper's), pool or qformer, or one of those that
            `fcot/compress/README.md` lists.
        compressor_options: Constructor arguments of that compressor alone, such as `{depth: 3}`.
        ratio: How many visual tokens become one: 2 halves them, 4 quarters them.
        ratios: Train a student for each of these ratios in one run, in place of `ratio`. They share the vision tower's
            and the teacher's pass, and otherwise train as if alone.
        elastic: Train one student for all `ratios`, which reads each tile at the ratio that is asked for: a compressor
            for each ratio, one projector for all, and at ratio 1 the teacher itself.
        mixed: Share of the steps, the last ones, in which an elastic student also learns from pages whose tiles have a
            ratio each, drawn evenly; ratio 1 is among them.
        placement: Compressor "before" the projector, on pixel-shuffled features, "after" it, or "instead" of it.
        keep_positions: Give every token its position without compression, so that a tile takes as many positions as in
            the teacher; false numbers the remaining tokens 0, 1, 2, …, as in the paper.
        position_rule: With kept positions, "window" puts a visual token in the first row of the tokens that it stands
            for, in the middle of their columns; "step" is the rule of fcot 0.1.0. A resumed run keeps its own.
        kl_weight: Weight of KL(teacher || student).
        ce_weight: Weight of the cross-entropy with the ground truth.
        temperature: Softens both distributions in the KL.
        chunk_rows: Answer tokens whose logits exist at a time; affects memory, not the result.
        checkpoint_activations: Recompute the students' layers in the backward pass instead of storing activations: less
            memory, a third more work.
        compile_layers: Compile the layers of vision tower and language model with torch.compile; `bench step --compile`
            measures whether that helps.
        shared: Arguments of every task: see `BaseTask`.
    """

    stage = "re-aligned"
    has_teacher = True

    def __init__(
        self,
        checkpoint: Path,
        *,
        compressor: str = "conv",
        compressor_options: dict[str, Any] | None = None,
        ratio: int = 2,
        ratios: list[int] | None = None,
        elastic: bool = False,
        mixed: float = 0.1,
        placement: str = "before",
        keep_positions: bool = False,
        position_rule: str = "window",
        kl_weight: float = 1.0,
        ce_weight: float = 1.0,
        temperature: float = 1.0,
        chunk_rows: int = 256,
        checkpoint_activations: bool = False,
        compile_layers: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(checkpoint, **shared)
        self.ratios = [ratio] if ratios is None else ratios
        if not self.ratios or len(set(self.ratios)) < len(self.ratios):
            raise UserError(f"ratios is {self.ratios}.\nGive each ratio once, such as [2, 4].")
        if not 0 <= mixed <= 1:
            raise UserError(f"mixed is {mixed}.\nGive a share of the steps between 0 and 1.")
        self.elastic, self.mixed = elastic, mixed
        self.on_mixed_pages: Callable[[MixedPages], None] | None = None  # a callback's
        together = tuple(self.ratios) if elastic else ()
        self.spec = StudentSpec(
            compressor, self.ratio, placement, keep_positions, compressor_options or {}, position_rule, together
        )
        self.kl_weight, self.ce_weight, self.temperature = kl_weight, ce_weight, temperature
        self.chunk_rows, self.checkpoint_activations = check_chunk_rows(chunk_rows), checkpoint_activations
        self.compile_layers = compile_layers

    @property
    def ratio(self) -> int:
        """How many visual tokens become one in the first student."""
        return self.ratios[0]

    @property
    def branches(self) -> dict[str, int]:
        """Branch of each student, with its ratio."""
        return student_branches(self.ratios)

    @property
    def saved_branches(self) -> list[str]:
        """Branches of the students that are saved, each as a folder; ratios of an elastic student are one."""
        return [STUDENT] if self.elastic else list(self.branches)

    @property
    def drawn_tokens(self) -> dict[str, DrawnTokens]:
        """Visual tokens of the mixed pages."""
        if not self.elastic or not self.mixed:
            return {}
        counts = TokenCounts(self.configs[STUDENT])
        shares = dict.fromkeys(counts.choices, 1 / len(counts.choices))
        return {MIXED: DrawnTokens(shares, by_tile=True, otherwise=counts.most)}

    @property
    def more_ratios(self) -> list[int]:
        """Ratios of further students; those of an elastic student are in its settings."""
        return [] if self.elastic else self.ratios[1:]

    @property
    def mixing(self) -> bool:
        """Whether this step has a pass over mixed pages."""
        if not self.elastic or not self.mixed or not self.training or self._trainer is None:
            return False
        return bool(self.global_step >= round((1 - self.mixed) * self.trainer.max_steps))

    @property
    def configs(self) -> dict[str, Any]:
        """The configuration of each student, by branch."""
        teacher = self.folder.config
        return {branch: student_config(teacher, self.spec.at(ratio)) for branch, ratio in self.branches.items()}

    def build(self) -> StudentTeacher:
        """Load the teacher and make its students; only projectors and compressors are trainable."""
        pair = StudentTeacher(
            self.folder.path,
            self.spec,
            more_ratios=self.more_ratios,
            checkpointing=self.checkpoint_activations,
        )
        pair.train_parts("projector")
        if self.compile_layers:
            pair.compile_layers()
        return pair

    def on_fit_start(self) -> None:
        """Print the trainable parameters."""
        trains = [f"{name} {list(p.shape)}" for name, p in self.pair.trainable()]
        millions = sum(p.numel() for _, p in self.pair.trainable()) / 1e6
        self.print(f"Re-alignment trains {millions:.2f} M parameters:\n  " + "\n  ".join(trains))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the rule for positions, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["position_rule"] = self.pair.student.config.position_rule

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the rule for positions that the run began with; checkpoints of 0.1.0 do not name theirs."""
        super().on_load_checkpoint(checkpoint)
        for student in self.pair.students().values():
            student.config.position_rule = checkpoint.get("position_rule", "step")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return KL and cross-entropy, each a mean over all answer tokens in the batch.

        The loss is the sum over students, or over an elastic one's ratios: there a ratio counts by its visual tokens
        (`ratio_weight`), for the ratios share a projector, and the coarsest has the largest gradients. If there are
        several, the parts are named by ratio, such as `kl_r4`; those of mixed pages, which the last steps add, by
        `mixed`.
        """
        labels = answer_labels(batch.sequences["teacher"])
        features = self.pair.features(batch.tiles)
        teacher = self.pair.teacher_rows(batch, features)
        students = {branch: self._student_rows(batch, features, branch, labels) for branch in self.branches}
        if self.mixing:
            students[MIXED] = self._student_rows(batch, features, MIXED, labels)
            if self.on_mixed_pages is not None:
                self.on_mixed_pages(pages_of_step(self.pair, batch, features, students[MIXED], teacher))
        compared = dict(zip(students, self._compare(list(students.values()), teacher, labels), strict=True))
        results = {ratio: compared[branch] for branch, ratio in self.branches.items()}
        more = {"mixed": compared[MIXED]} if self.mixing else {}
        counted = torch.tensor(float(len(labels)), device=labels.device)
        weighted = [self.ratio_weight(ratio) * result.loss for ratio, result in results.items()]
        loss = torch.stack([*weighted, *(result.loss for result in more.values())]).sum()
        found = {"loss": loss, "ce_rows": results[self.ratio].ce_rows, "weight": counted}
        parts = {f"_r{ratio}" if len(results) > 1 else "": result for ratio, result in results.items()}
        for suffix, result in (parts | {f"_{name}": result for name, result in more.items()}).items():
            found |= {f"{name}{suffix}": getattr(result, name) for name in ("kl", "ce", "agreement")}
        return found

    def ratio_weight(self, ratio: int) -> float:
        """Return how much a ratio counts in the loss: of an elastic student's [2, 4], 4 counts half as much as 2."""
        return min(self.ratios) / ratio if self.elastic else 1.0

    def _student_rows(self, batch: Batch, features: Tensor, branch: str, labels: Tensor) -> Tensor:
        """Return a student's answer rows, which must predict the same tokens as the teacher's."""
        # on the meta device, where FLOPs are counted, labels have no values
        if not labels.is_meta and not torch.equal(labels, answer_labels(batch.sequences[branch])):
            raise RuntimeError(f"Teacher and {branch} differ in their answer tokens in batch {batch.keys[:3]} …")
        return self.pair.student_rows(batch, features, branch)

    def _compare(self, students: list[Tensor], teacher: Tensor, labels: Tensor) -> list[DistillationLoss]:
        return distillation_losses(
            students,
            teacher,
            self.pair.head_weight,
            labels,
            kl_weight=self.kl_weight,
            ce_weight=self.ce_weight,
            temperature=self.temperature,
            chunk_rows=self.chunk_rows,
        )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each student's gradients by their own norm, as if it were trained alone; an elastic one's together."""
        if gradient_clip_algorithm == "value" or len(self.saved_branches) == 1:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        if gradient_clip_val is None or gradient_clip_val <= 0:  # Lightning's settings for no clipping
            return
        for student in self.pair.students().values():
            nn.utils.clip_grad_norm_([p for p in student.parameters() if p.requires_grad], gradient_clip_val)
