"""The re-alignment step without any of its savings: two whole models, two vision runs, full logits."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForImageTextToText

from fcot.batch import Batch
from fcot.internvl.pixels import normalize
from fcot.models.student import CompressedInternVL
from fcot.models.student_teacher import StudentTeacher, answer_labels


class NaiveStep(nn.Module):
    """What a first version of the training loop does, in plain transformers; the yardstick of `bench step`.

    The student's vision tower is frozen. Its language model is not: only the optimizer leaves it out, so its weights'
    gradients are computed for nothing.

    Args:
        teacher: A native InternVL.
        student: The student, with a separate vision tower and language model.
        mean: Mean of each channel `[3]`.
        std: Deviation of each channel `[3]`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, teacher: Any, student: Any, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.student = student.requires_grad_(True)
        self.student.model.vision_tower.requires_grad_(False)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @classmethod
    def of(cls, pair: StudentTeacher, native_config: Any) -> dict[str, "NaiveStep"]:
        """Make the two models that a container shares the weights of, on its device, for each student's branch.

        The teacher is made of the container's own frozen parts, and the students share a copy of these, so that
        container and naive steps can be measured in turn in the memory that a naive step needs alone.

        Args:
            pair: With a teacher, and only the projector trainable.
            native_config: Configuration of the teacher.
        """
        with torch.device("meta"):
            teacher = AutoModelForImageTextToText.from_config(native_config)
        teacher.model.vision_tower = pair.student.model.vision_tower
        teacher.model.language_model = pair.student.model.language_model
        teacher.model.multi_modal_projector = pair.teacher_projector
        teacher.lm_head = pair.student.lm_head
        students = copy.deepcopy(pair.students())
        return {
            branch: cls(teacher, student, pair.mean.clone(), pair.std.clone()) for branch, student in students.items()
        }

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of what the optimizer is given: projector and compressor."""
        parameters: Iterator[tuple[str, nn.Parameter]] = self.student.model.multi_modal_projector.named_parameters()
        return parameters

    def loss(
        self,
        batch: Batch,
        branch: str = "student",
        *,
        kl_weight: float = 1.0,
        ce_weight: float = 1.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """Return the loss of a batch's branch, from the logits of all positions of both models."""
        with torch.no_grad():
            teacher = self._logits(self.teacher, batch, "teacher")
        student = self._logits(self.student, batch, branch)
        log_t, log_s = ((logits / temperature).log_softmax(-1) for logits in (teacher, student))
        kl = functional.kl_div(log_s, log_t, reduction="sum", log_target=True)
        ce = functional.cross_entropy(student, answer_labels(batch.sequences[branch]), reduction="sum")
        return (kl_weight * temperature**2 * kl + ce_weight * ce) / len(student)

    def _logits(self, model: Any, batch: Batch, branch: str) -> Tensor:
        """Return a model's logits at answer positions `[answers, vocabulary]` in fp32."""
        sequences = batch.sequences[branch]
        embeddings = model.get_input_embeddings()(sequences.input_ids)
        if len(batch.tiles):
            pixels = normalize(batch.tiles, self.mean, self.std)
            if isinstance(model, CompressedInternVL) and model.makes_rows:
                made = model.image_outputs(pixels, batch.tile_tokens[branch], sequences.input_ids)
                visual = torch.cat(made["image"].pooler_output)
            else:
                visual = model.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
            places = (sequences.input_ids == model.config.image_token_id)[..., None]
            embeddings = embeddings.masked_scatter(places, visual.to(embeddings.dtype))
        logits: Tensor = model(inputs_embeds=embeddings, use_cache=False).logits
        return logits.flatten(0, 1)[sequences.answers].float()
