"""How much memory a training step takes, counted without making a weight.

Parameters, gradients and optimizer states follow from the configuration. What the backward pass needs is counted by
running the model's own forward pass on fake tensors, which have shapes and types but no contents.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode  # where torch's own documentation takes it from
from transformers import AutoModelForImageTextToText

from fcot.internvl.checkpoint import ModelFolder
from fcot.models.projector import visual_tokens
from fcot.models.student_teacher import PARTS, StudentTeacher, part_of
from fcot.models.token_counts import TokenCounts

FP32, BF16 = 4, 2  # bytes
ADAM = 2  # states of a parameter
# what exists at once for each of a chunk's logits, in bytes: four fp32 tensors; a bf16 and two fp32 ones
LOGIT = {"re-align": 4 * FP32, "sft": BF16 + 2 * FP32}
CHUNK_ROWS = {"re-align": 256, "sft": 1024}  # defaults of `Realign` and `SFT`
STRATEGIES = ("single", "ddp", "fsdp2")


@dataclass(frozen=True)
class Step:
    """What one training step of one page takes with bf16-mixed precision, in bytes on a single device.

    Attributes:
        stage: "re-align" or "sft".
        weights: All parameters: trainable ones in fp32, frozen ones in bf16.
        trainable: The trainable ones among them.
        layer: The largest layer in bf16, as FSDP2 gathers it.
        outside: What is in no layer (head, embeddings, norms) in bf16; FSDP2 keeps it whole for the step.
        kept: What the forward pass keeps for the backward pass, bf16 casts of weights included.
        kept_gathered: The same under FSDP2, which gathers weights in bf16, so that nothing is cast.
        loss: A chunk's logits; if the head is trainable, also its cast and its gradient.
    """

    stage: str
    weights: int
    trainable: int
    layer: int
    outside: int
    kept: int
    kept_gathered: int
    loss: int

    def total(self, strategy: str, num_devices: int) -> int | None:
        """Return the bytes on each device; None if the stage is not trained this way.

        Args:
            strategy: single, ddp or fsdp2.
            num_devices: How many devices share the work; a single one has all of it.
        """
        states = (1 + ADAM) * self.trainable  # a gradient and Adam's two moments, fp32 as the parameter
        if strategy == "fsdp2" and self.stage == "re-align":
            return None
        if strategy == "fsdp2":
            # two layers gathered, one gradient with its fp32 copy that is summed up; what is outside with its gradient
            gathered = (2 + 1 + FP32 // BF16) * self.layer + 2 * self.outside
            return (self.weights + states) // num_devices + gathered + self.kept_gathered + self.loss
        buckets = self.trainable if strategy == "ddp" else 0  # DDP copies gradients into buckets
        return self.weights + states + buckets + self.kept + self.loss


def training_steps(folder: ModelFolder, *, tiles: int, text_tokens: int, ratio: int) -> Iterator[Step]:
    """Yield what a step of each stage takes, for one page with its answer.

    Args:
        folder: A native InternVL, or a student, which is not re-aligned again.
        tiles: Tiles of the page.
        text_tokens: Tokens of question and answer.
        ratio: How many visual tokens become one; a student keeps its own.
    """
    is_student = folder.config.model_type == "fcot_internvl"
    with FakeTensorMode():
        compressor = None if is_student or ratio == 1 else "conv"
        pair = StudentTeacher(folder.path, compressor=compressor, ratio=ratio, from_scratch=True)
        # a dynamic rope (the 8B's) asks for the value of the last position, which a fake tensor does not have
        pair.student.model.language_model.rotary_emb.rope_type = "default"
        stages = {"re-align": ("projector",)} if compressor else {}
        for stage, parts in {**stages, "sft": PARTS}.items():
            if stage == "sft":
                pair.teacher_projector = None
            pair.train_parts(*parts)
            yield _counted(stage, pair, tiles, text_tokens)


def parameters_by_part(folder: ModelFolder) -> dict[str, int]:
    """Return how many parameters vision tower, projector and language model have."""
    counts = dict.fromkeys(PARTS, 0)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(folder.config)
    for name, parameter in model.named_parameters():
        counts[part_of(name)] += parameter.numel()
    return counts


def _counted(stage: str, pair: StudentTeacher, tiles: int, text_tokens: int) -> Step:
    """Return what a step takes of a container whose parts are frozen or not."""
    cast(pair, torch.float32)
    parameters = list(pair.parameters())
    model = pair.student.model
    blocks = [*model.language_model.layers, *model.vision_tower.encoder.layer, model.multi_modal_projector]
    sizes = [sum(each.numel() for each in block.parameters()) for block in blocks]
    rows = min(CHUNK_ROWS[stage], text_tokens)
    head = pair.head_weight.numel() * (BF16 + FP32) if pair.head_weight.requires_grad else 0
    kept = _kept(pair, tiles, text_tokens)
    step = Step(
        stage,
        weights=sum(each.nbytes for each in parameters),
        trainable=sum(each.nbytes for each in parameters if each.requires_grad),
        layer=max(sizes) * BF16,
        outside=(sum(each.numel() for each in parameters) - sum(sizes)) * BF16,
        kept=kept,
        kept_gathered=kept,
        loss=rows * pair.head_weight.shape[0] * LOGIT[stage] + head,
    )
    if stage == "re-align":
        return step
    cast(pair, torch.bfloat16)
    return replace(step, kept_gathered=_kept(pair, tiles, text_tokens))


def cast(pair: StudentTeacher, dtype: torch.dtype) -> None:
    """Cast trainable parameters to a type, and frozen ones to bf16, as training with bf16-mixed precision does."""
    for _, parameter in pair.trainable():
        parameter.data = parameter.data.to(dtype)
    pair.keep_frozen_in(torch.bfloat16)


def _kept(pair: StudentTeacher, tiles: int, text_tokens: int) -> int:
    """Return the bytes that the forward pass keeps for the backward pass.

    Layers of a tower are alike, so one and two of each are run, and the others follow.
    """
    reader, tower = pair.student.model.language_model, pair.student.model.vision_tower.encoder
    layers, tower_layers = reader.layers, tower.layer
    own = {parameter.untyped_storage()._cdata for parameter in pair.parameters()}
    compressor: Any = getattr(pair.student, "compressor", None)
    levels = getattr(compressor, "levels", ())
    counted = {}
    try:
        if levels:  # which so few layers do not have
            compressor.levels = (0,) * len(levels)
        for shape in ((1, 1), (2, 1), (1, 2)):
            reader.layers, tower.layer = layers[: shape[0]], tower_layers[: shape[1]]
            counted[shape] = _kept_by_forward(pair, tiles, text_tokens, own)
    finally:
        reader.layers, tower.layer = layers, tower_layers
        if levels:
            compressor.levels = levels
    first = counted[1, 1]
    return first + (len(layers) - 1) * (counted[2, 1] - first) + (len(tower_layers) - 1) * (counted[1, 2] - first)


def _kept_by_forward(pair: StudentTeacher, tiles: int, text_tokens: int, own: set[int]) -> int:
    """Run the forward pass and add up what it keeps: each storage once, those of parameters (`own`) left out."""
    kept: dict[int, int] = {}
    model, size = pair.student.model, pair.student.config.vision_config.image_size[0]
    counts = [TokenCounts(pair.student.config).most] * tiles
    length = sum(counts) + text_tokens

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # on fake tensors, unlike in training, transformers makes a causal mask of length x length
        if storage._cdata not in own and tensor.shape[-2:] != (length, length):
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        features = pair.features(torch.zeros(tiles, 3, size, size, dtype=torch.uint8))
        text = pair.student.get_input_embeddings()(torch.zeros(1, text_tokens, dtype=torch.long))
        question = text.expand(tiles, -1, -1), torch.ones(tiles, text_tokens, dtype=torch.bool)
        visual = visual_tokens(model.multi_modal_projector, features, counts, question)
        visual = visual.reshape(1, length - text_tokens, -1)
        embeddings = torch.cat([visual.to(text.dtype), text], dim=1)
        hidden = model.language_model(inputs_embeds=embeddings, use_cache=False)[0]
    total = sum(kept.values())
    del hidden  # it holds the graph, and with it every storage that was counted
    return total
