"""Student and teacher in one container: one vision tower, one language model, two visual prefixes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, InternVLForConditionalGeneration

from fcot.batch import Batch, Sequences
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tokens import check_placeholders, normalize, raster_side
from fcot.student import CompressedInternVL, load_student, student_of

PARTS = ("vision", "projector", "llm")


def part_of(name: str) -> str:
    """Return which part of the model a parameter of the student belongs to: vision, projector or llm."""
    if ".vision_tower." in name:
        return "vision"
    return "projector" if ".multi_modal_projector." in name else "llm"


class StudentTeacher(nn.Module):
    """A student and, while it re-aligns, its teacher (FCoT-VL, section 3.1).

    Vision tower, language model and head exist once and belong to both; the teacher adds its projector only.

    Args:
        checkpoint: Model folder; a native InternVL becomes the teacher, a folder saved by fcot is a student.
        compressor: Short name of a compressor for a new student; None takes the folder's model as it is.
        ratio: How many visual tokens become one.
        placement: Compressor "before" or "after" the projector.
        keep_positions: A new student's tokens keep the positions they have in the teacher.
        from_scratch: Take the configuration only and start from random weights.

    Raises:
        UserError: If the folder is missing or not an InternVL, or a compressed model is to be compressed again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        checkpoint: Path,
        *,
        compressor: str | None = None,
        ratio: int = 1,
        placement: str = "before",
        keep_positions: bool = False,
        from_scratch: bool = False,
    ) -> None:
        super().__init__()
        folder = ModelFolder(checkpoint)
        if from_scratch:
            model = AutoModelForImageTextToText.from_config(folder.config, dtype=torch.float32)
        else:
            model = load_student(checkpoint, dtype=torch.float32)
        self.teacher_projector: nn.Module | None = None
        if compressor is not None:
            if folder.config.model_type == "fcot_internvl":
                raise UserError(
                    f"{checkpoint} is already a compressed student (ratio {folder.config.ratio}).\n"
                    "Re-align from a native InternVL folder, or post-train this one with SFT."
                )
            self.teacher_projector = model.model.multi_modal_projector.requires_grad_(False)
            model = student_of(
                model, compressor=compressor, ratio=ratio, placement=placement, keep_positions=keep_positions
            )
        self.student: InternVLForConditionalGeneration = model
        preprocessing = folder.preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing["image_mean"]), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing["image_std"]), persistent=False)

    def train_parts(self, *parts: str) -> None:
        """Let only these parts of the student learn; the rest is frozen and stays in evaluation mode.

        Raises:
            UserError: If a part is unknown.
        """
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise UserError(f"There is no part {sorted(unknown)} to train. Parts are {', '.join(PARTS)}.")
        for name, parameter in self.student.named_parameters():
            parameter.requires_grad_(part_of(name) in parts)

    def train(self, mode: bool = True) -> "StudentTeacher":
        """Set training mode on modules that learn, evaluation mode on frozen ones."""
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

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of everything that learns."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)

    def frozen(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and tensor of everything that does not learn."""
        return ((name, p) for name, p in self.named_parameters() if not p.requires_grad)

    def frozen_digest(self) -> str:
        """Return the sha256 of all frozen tensors, names included."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.frozen()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def features(self, tiles: Tensor) -> Tensor:
        """Return pixel-shuffled vision features `[tiles, tokens, 4·C]` of uint8 tiles, shared by all sides.

        The vision tower runs without gradient unless it learns, and not at all where there are no tiles; the result
        is connected to it all the same, for other processes may have tiles and wait for its gradients.
        """
        model: Any = self.student.model
        tower = model.vision_tower
        if not len(tiles):  # transformers' attention cannot take an empty batch
            width = model.multi_modal_projector.linear_1.in_features
            return self._connected(self.mean.new_zeros(0, raster_side(model.config) ** 2, width), tower)
        learns = any(p.requires_grad for p in tower.parameters())
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            hidden = tower(normalize(tiles, self.mean, self.std)).last_hidden_state[:, 1:]
            side = int(hidden.shape[1] ** 0.5)
            raster = hidden.unflatten(1, (side, side))
            shuffled: Tensor = model.pixel_shuffle(raster, scale_factor=model.config.downsample_ratio)
            return shuffled.flatten(1, 2)

    @staticmethod
    def _connected(empty: Tensor, module: nn.Module) -> Tensor:
        """Return a tensor without elements whose gradient reaches what learns in a module, as zeros."""
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not learning or not torch.is_grad_enabled():
            return empty
        return empty + torch.stack([parameter.flatten()[0] * 0 for parameter in learning]).sum()

    def teacher_rows(self, batch: Batch, features: Tensor | None = None) -> Tensor:
        """Return the teacher's final hidden rows at answer positions `[answers, width]`, without gradient.

        Args:
            batch: Must have the side "teacher".
            features: Vision features, if already computed.

        Raises:
            RuntimeError: If the container has no teacher.
        """
        if self.teacher_projector is None:
            raise RuntimeError("This container holds a student only. Build it with a compressor to have a teacher.")
        with torch.no_grad():
            features = self.features(batch.tiles) if features is None else features
            return self._rows(self.teacher_projector, batch, batch.sequences["teacher"], features)

    def student_rows(self, batch: Batch, features: Tensor | None = None) -> Tensor:
        """Return the student's final hidden rows at answer positions `[answers, width]`.

        Args:
            batch: Must have the side "student".
            features: Vision features, if already computed.
        """
        features = self.features(batch.tiles) if features is None else features
        return self._rows(self.student.model.multi_modal_projector, batch, batch.sequences["student"], features)

    def _rows(self, projector: nn.Module, batch: Batch, sequences: Sequences, features: Tensor) -> Tensor:
        ids = sequences.input_ids
        embeddings = self._embed(projector, batch, ids, features)
        where = self._positions(projector, ids)
        # Padding is on the right and attention is causal: answer rows never see it, no mask is needed. But positions
        # with gaps need one of ones, or transformers takes them for several sequences in a row.
        mask = None if where is None else torch.ones_like(ids)
        hidden = self.student.model.language_model(
            inputs_embeds=embeddings, position_ids=where, attention_mask=mask, use_cache=False
        )[0]
        rows: Tensor = hidden.flatten(0, 1).index_select(0, sequences.answers)
        return rows

    def _positions(self, projector: nn.Module, ids: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """Return the positions of a side's tokens, None where they simply count up: the teacher's always do."""
        if projector is self.teacher_projector or not isinstance(self.student, CompressedInternVL):
            return None
        return self.student.positions(ids, mask)

    def _embed(self, projector: nn.Module, batch: Batch, ids: Tensor, features: Tensor) -> Tensor:
        """Return embeddings `[batch, length, width]`, visual rows at the placeholders.

        The projector runs on text-only batches too: the loss is then still connected to what learns.
        """
        embeddings: Tensor = self.student.get_input_embeddings()(ids)
        visual = projector(features)
        image_id = self.student.config.image_token_id
        check_placeholders(ids, image_id, batch.num_tiles * visual.shape[1], batch.keys)
        return embeddings.masked_scatter((ids == image_id)[..., None], visual.to(embeddings.dtype))

    @property
    def head_weight(self) -> Tensor:
        """The language model's head `[vocabulary, width]`."""
        weight: Tensor = self.student.lm_head.weight
        return weight

    @torch.no_grad()
    def answer(self, batch: Batch, side: str, **generation: Any) -> list[list[int]]:
        """Generate greedily after each prompt of a batch.

        Args:
            batch: With prompts (an evaluation batch).
            side: "student" or "teacher".
            generation: Options of transformers' `generate`, `max_new_tokens` say.

        Returns:
            New token ids of each sample, end token and padding removed.
        """
        sequences = batch.sequences[side]
        projector = self.student.model.multi_modal_projector
        if side == "teacher" and self.teacher_projector is not None:
            projector = self.teacher_projector
        ids, mask = sequences.prompt_ids, sequences.prompt_mask
        assert ids is not None and mask is not None
        embeddings = self._embed(projector, batch, ids, self.features(batch.tiles))
        eos = self.student.generation_config.eos_token_id
        where = self._positions(projector, ids, mask)
        new = self.student.generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            do_sample=False,
            use_cache=True,
            **({} if where is None else {"position_ids": where}),
            **generation,
        )
        stops = set(eos if isinstance(eos, list) else [eos])
        return [self._until(row.tolist(), stops) for row in new]

    @staticmethod
    def _until(ids: list[int], stops: set[int]) -> list[int]:
        return next((ids[:i] for i, token in enumerate(ids) if token in stops), ids)


def answer_labels(sequences: Sequences) -> Tensor:
    """Return the labels of answer rows in row order `[answers]`."""
    return sequences.labels.flatten()[sequences.answers + 1]


def answer_samples(sequences: Sequences) -> Tensor:
    """Return which sample of the batch each answer row belongs to `[answers]`."""
    return sequences.answers // sequences.labels.shape[1]
