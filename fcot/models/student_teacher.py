"""Student and teacher in one container: one vision tower, one language model, a visual prefix for each."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, InternVLForConditionalGeneration

from fcot.batch import Batch, Sequences
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.pixels import normalize
from fcot.internvl.tokens import check_placeholders, raster_side
from fcot.models.autocast import without_autocast
from fcot.models.branches import TEACHER, student_branches
from fcot.models.decoder import allow_packing, answer_rows
from fcot.models.generation import answer
from fcot.models.new_student import student_of
from fcot.models.projector import visual_tokens
from fcot.models.question import question_text, reads_text, samples_of
from fcot.models.reduced_pages import Left
from fcot.models.sampling import Sampling
from fcot.models.sharded_tensors import most_over_processes, whole
from fcot.models.sharding import is_sharded
from fcot.models.spec import StudentSpec
from fcot.models.student import CompressedInternVL
from fcot.models.student_folder import load_student
from fcot.models.vision import vision_features
from fcot.models.weight_checks import require_numbers
from fcot.reduce import Reducer

PARTS = ("vision", "projector", "llm")


def part_of(name: str) -> str:
    """Return which part of the model a parameter of the student belongs to: vision, projector or llm."""
    if ".vision_tower." in name:
        return "vision"
    return "projector" if ".multi_modal_projector." in name else "llm"


def is_unused(config: Any, name: str) -> bool:
    """Return whether no result depends on a parameter of a model.

    That is the vision tower's mask token, which is for pretraining only, a projector whose place is taken, and a
    router, which decides what is read and is fitted by itself.
    """
    replaced = getattr(config, "placement", "") == "instead" and not (".compressor." in name or ".whole." in name)
    return name.endswith(".mask_token") or ".router." in name or (replaced and part_of(name) == "projector")


class StudentTeacher(nn.Module):
    """One or several students at different ratios and, during re-alignment, their teacher (FCoT-VL, section 3.1).

    All share one vision tower, language model and head; the teacher adds only its projector, a further student its
    compressor and projector.

    Args:
        checkpoint: Model folder; a native InternVL becomes the teacher, a folder saved by fcot is a student.
        spec: Settings of a new student, also accepted one by one; None takes the folder's model as it is.
        compressor: Short name of a compressor for a new student.
        ratio: How many visual tokens become one.
        placement: Compressor "before" the projector, "after" it or "instead" of it.
        keep_positions: A new student's tokens keep their positions in the teacher.
        position_rule: Where its visual tokens then stand.
        compressor_options: Constructor arguments of this compressor alone.
        from_scratch: Take only the configuration, and start from random weights.
        more_ratios: Ratios of further students.
        dtype: Type of the weights; "auto" keeps the stored type.
        checkpointing: Keep only the inputs of layers that a gradient reaches, and recompute the rest in the backward
            pass: less memory, a third more work. The teacher's pass is not affected.

    Raises:
        UserError: If the folder is missing or not an InternVL, or its model is already compressed and a spec is given.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        checkpoint: Path,
        spec: StudentSpec | None = None,
        *,
        compressor: str | None = None,
        ratio: int = 1,
        placement: str = "before",
        keep_positions: bool = False,
        position_rule: str = "window",
        compressor_options: Mapping[str, Any] | None = None,
        from_scratch: bool = False,
        more_ratios: Sequence[int] = (),
        dtype: torch.dtype | str = torch.float32,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if spec is None and compressor is not None:
            spec = StudentSpec(compressor, ratio, placement, keep_positions, compressor_options or {}, position_rule)
        folder = ModelFolder(checkpoint)
        if from_scratch:
            model = AutoModelForImageTextToText.from_config(folder.config, dtype=torch.float32)
        else:
            model = load_student(checkpoint, dtype=dtype)
            require_numbers(model, folder)
        self.teacher_projector: nn.Module | None = None
        self.further = nn.ModuleDict()  # students at more ratios, by branch
        self.checkpointing = checkpointing
        if checkpointing:
            model.model.vision_tower.gradient_checkpointing_enable()  # acts only while the tower is trained
        allow_packing(model.model.language_model)
        if spec is not None:
            if folder.config.model_type == "fcot_internvl":
                raise UserError(
                    f"{checkpoint} is already a compressed student (ratio {folder.config.ratio}).\n"
                    "Re-align from a native InternVL folder, or post-train this one with SFT."
                )
            self.teacher_projector = model.model.multi_modal_projector.requires_grad_(False)
            ratios = (spec.ratio, *more_ratios)
            students = [student_of(model, spec.at(each)) for each in ratios]
            model = students[0]
            branches = student_branches(ratios)
            self.further.update(dict(zip(list(branches)[1:], students[1:], strict=True)))
        self.student: InternVLForConditionalGeneration = model
        preprocessing = folder.preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing["image_mean"]), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing["image_std"]), persistent=False)

    def train_parts(self, *parts: str) -> None:
        """Make only these parts of the students trainable; the rest is frozen and stays in evaluation mode.

        Raises:
            UserError: If a part is unknown.
        """
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise UserError(f"There is no part {sorted(unknown)} to train. Parts are {', '.join(PARTS)}.")
        for student in self.students().values():
            for name, parameter in student.named_parameters():
                # DDP fails on an unused parameter
                parameter.requires_grad_(part_of(name) in parts and not is_unused(student.config, name))
        if self.teacher_projector is not None:  # an elastic student's, too
            self.teacher_projector.requires_grad_(False)

    def train(self, mode: bool = True) -> "StudentTeacher":
        """Set training mode on trainable modules, evaluation mode on frozen ones."""
        super().train(mode)
        if mode:
            for module in (
                self.student.model.vision_tower,
                self.student.model.language_model,
                self.teacher_projector,
            ):
                if module is not None and not any(p.requires_grad for p in module.parameters()):
                    module.eval()
        return self

    def students(self) -> dict[str, Any]:
        """Return the students by branch."""
        return {"student": self.student, **self.further}

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the names and parameters that are trainable."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)

    def frozen(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and parameters that are frozen."""
        return ((name, p) for name, p in self.named_parameters() if not p.requires_grad)

    def keep_frozen_in(self, dtype: torch.dtype) -> None:
        """Cast frozen parameters to `dtype`; trainable ones keep theirs."""
        for _, tensor in self.frozen():
            tensor.data = tensor.data.to(dtype)

    def compile_layers(self) -> None:
        """Compile the layers of vision tower and language model with torch.compile, when they first run."""
        self.compile_tower()
        for layer in self.student.model.language_model.layers:
            layer.compile(dynamic=True)

    def compile_tower(self) -> None:
        """Compile the layers of the vision tower alone, as for answers: the others would see their caches grow."""
        for layer in self.student.model.vision_tower.encoder.layer:
            layer.compile(dynamic=True)

    def frozen_digest(self) -> str:
        """Return the sha256 of all frozen tensors and their names; if sharded, all processes must call this."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.frozen()):
            digest.update(name.encode())
            digest.update(whole(tensor.detach()).cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def levels(self) -> tuple[int, ...]:
        """The layers of the vision tower that students read beside the last; they all read the same."""
        return self.student.compressor.levels if isinstance(self.student, CompressedInternVL) else ()

    def features(self, tiles: Tensor) -> Tensor:
        """Return pixel-shuffled vision features `[tiles, tokens, 4·C]` of uint8 tiles, shared by all branches.

        Those of `levels` are joined behind the last layer's, `[tiles, tokens, 4·C·(1 + L)]`.

        A frozen vision tower runs without gradient. For a batch without tiles, a trainable one runs on a blank tile
        whose features are dropped: all processes must have gradients for the same parameters.
        """
        model: Any = self.student.model
        tower = model.vision_tower
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in tower.parameters())
        count = len(tiles)
        if not count:  # transformers' attention cannot take an empty batch
            if not learns:
                width = model.multi_modal_projector.linear_1.in_features * (1 + len(self.levels))
                return self.mean.new_zeros(0, raster_side(model.config) ** 2, width)
            tiles = tiles.new_zeros(1, *tiles.shape[1:])
        dtype = next(tower.parameters()).dtype
        # autocast would turn a bf16 tower's norms into fp32 and back; answers are read without it, too
        plain = without_autocast(tiles.device.type) if not learns and dtype != torch.float32 else nullcontext()
        with torch.set_grad_enabled(learns), plain:
            return vision_features(model, normalize(tiles, self.mean, self.std).to(dtype), self.levels)[:count]

    def teacher_rows(self, batch: Batch, features: Tensor | None = None) -> Tensor:
        """Return the teacher's final hidden rows at answer positions `[answers, width]`, without gradient.

        Args:
            batch: Must have the branch "teacher".
            features: Vision features, if already computed.

        Raises:
            RuntimeError: If the container has no teacher.
        """
        if self.teacher_projector is None:
            raise RuntimeError("This container holds a student only. Build it with a compressor to have a teacher.")
        with torch.no_grad():
            return self._in_packs(batch, "teacher", self.features(batch.tiles) if features is None else features)

    def student_rows(self, batch: Batch, features: Tensor | None = None, branch: str = "student") -> Tensor:
        """Return a student's final hidden rows at answer positions `[answers, width]`.

        Args:
            batch: Must have the branch.
            features: Vision features, if already computed.
            branch: Branch of the student: "student", or that of a further ratio.
        """
        return self._in_packs(batch, branch, self.features(batch.tiles) if features is None else features)

    def _in_packs(self, batch: Batch, branch: str, features: Tensor) -> Tensor:
        """Return rows at answer positions in the order of samples, running one pass for each pack of the branch."""
        sequences = batch.sequences[branch]
        passes = 1 if sequences.packs is None else len(sequences.packs)
        # sharded passes gather weights and reduce gradients, so all processes must run equally many
        shared = is_sharded(self) and torch.is_grad_enabled()
        idle = most_over_processes(passes, features.device) - passes if shared else 0
        if sequences.packs is None:
            part, its_pages = batch, features
            found = self._rows(batch, branch, features)
        else:
            pages = batch.by_sample(features)
            counts = batch.by_sample(batch.tile_tokens[branch])
            rows: dict[int, Tensor] = {}
            for pack in sequences.packs:
                part = replace(
                    batch,
                    keys=[batch.keys[i] for i in pack],
                    num_tiles=batch.num_tiles[list(pack)],
                    sequences={branch: sequences.take(pack)},
                    tile_tokens={branch: torch.cat([counts[i] for i in pack])},
                )
                its_pages = torch.cat([pages[i] for i in pack])
                rows_of_pack = self._rows(part, branch, its_pages)
                rows.update(zip(pack, rows_of_pack.split(part.sequences[branch].segments().counts), strict=True))
            found = torch.cat([rows[i] for i in range(len(batch))])
        for _ in range(idle):
            found = found + 0 * self._rows(part, branch, its_pages).sum()
        return found

    def projector(self, branch: str) -> Any:
        """Return a branch's projector; for a native InternVL alone, student and teacher are the same."""
        if branch == "teacher" and self.teacher_projector is not None:
            return self.teacher_projector
        return self.students().get(branch, self.student).model.multi_modal_projector

    def _rows(self, batch: Batch, branch: str, features: Tensor) -> Tensor:
        sequences = batch.sequences[branch]
        segments = sequences.segments()
        embeddings = self.embed(branch, batch, sequences.input_ids, features, sequences.lengths)
        where = self.positions(branch, sequences.input_ids, None, batch.tile_tokens[branch])
        if where is None:
            where = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        if sequences.lengths is not None:
            where = where - where[:, segments.first(where.device)]
        return answer_rows(
            self.student.model.language_model,
            embeddings,
            where,
            sequences.answers,
            segments,
            packed=sequences.lengths is not None,
            checkpointing=self.checkpointing,
        )

    def positions(
        self, branch: str, ids: Tensor, mask: Tensor | None = None, counts: Tensor | None = None
    ) -> Tensor | None:
        """Return the positions of a branch's tokens, None where they are consecutive, as the teacher's always are.

        Args:
            branch: Branch of the tokens.
            ids: `[rows, length]`.
            mask: 1 on tokens, 0 on padding; None for all tokens.
            counts: Visual tokens of each tile in the ids, in order; needed where tiles differ.
        """
        model = None if branch == TEACHER else self.students().get(branch, self.student)
        return model.positions(ids, mask, counts) if isinstance(model, CompressedInternVL) else None

    def embed(
        self, branch: str, batch: Batch, ids: Tensor, features: Tensor, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Return embeddings `[rows, length, width]`, visual tokens at the placeholders.

        The projector runs on text-only batches too, so that the loss stays connected to its parameters.
        """
        embeddings: Tensor = self.student.get_input_embeddings()(ids)
        visual, counts = self._visual_tokens(branch, batch, features, samples_of(ids, None, lengths))
        image_id = self.student.config.image_token_id
        check_placeholders(ids, image_id, counts, batch.num_tiles, batch.keys, lengths)
        return embeddings.masked_scatter((ids == image_id)[..., None], visual.to(embeddings.dtype))

    def _visual_tokens(
        self, branch: str, batch: Batch, features: Tensor, samples: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return a branch's visual tokens of all tiles, and how many each tile has `[tiles]`."""
        counts, projector = batch.tile_tokens[branch], self.projector(branch)
        text = question_text(self.student, samples, batch.num_tiles.tolist()) if reads_text(projector) else None
        visual = visual_tokens(projector, features, counts.tolist(), text)
        return visual, counts if visual.ndim == 2 else torch.full((len(visual),), visual.shape[1])

    @property
    def head_weight(self) -> Tensor:
        """The language model's head `[vocabulary, width]`."""
        weight: Tensor = self.student.lm_head.weight
        return weight

    @torch.no_grad()
    def answer(
        self,
        batch: Batch,
        branch: str,
        sampling: Sampling | None = None,
        reducer: Reducer | None = None,
        left: list[Left] | None = None,
        **generation: Any,
    ) -> list[list[int]]:
        """Generate after each prompt of a batch: see `fcot.models.generation.answer`."""
        return answer(self, batch, branch, sampling, reducer, left, **generation)


def answer_labels(sequences: Sequences) -> Tensor:
    """Return the labels of answer rows in row order `[answers]`."""
    return sequences.labels.flatten()[sequences.answers + 1]


def answer_samples(sequences: Sequences) -> Tensor:
    """Return the number of the sample that each answer row belongs to `[answers]`."""
    if sequences.lengths is None:
        return sequences.answers // sequences.labels.shape[1]
    ends = sequences.segments().boundaries[1:].to(sequences.answers)
    return torch.searchsorted(ends, sequences.answers, right=True)
