"""How much memory a training step takes, counted without making a weight.

Parameters, gradients and optimizer states follow from the configuration. What the backward pass needs is counted by
running the model's own forward pass on fake tensors, which have shapes and types and no contents.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode  # where torch's own documentation takes it from
from transformers import AutoModelForImageTextToText

from fcot.internvl.checkpoint import ModelFolder
from fcot.pair import PARTS, StudentTeacher, part_of

FP32, BF16 = 4, 2  # bytes
ADAM = 2  # states of a parameter
LOGITS = 4  # tensors of a chunk's logits that are alive at once
CHUNK_ROWS = 256
STRATEGIES = ("single", "ddp", "fsdp2")


@dataclass(frozen=True)
class Step:
    """What one training step of one page takes, in bytes on a single device.

    Attributes:
        stage: "re-align" or "sft".
        weights: All parameters, fp32.
        trainable: Of these, what learns.
        largest: The largest layer or table, which FSDP2 gathers whole.
        kept: What the forward pass keeps for the backward pass, casts of weights included.
        loss: A chunk's logits.
    """

    stage: str
    weights: int
    trainable: int
    largest: int
    kept: int
    loss: int

    def total(self, strategy: str, num_devices: int) -> int:
        """Return the bytes on each device.

        Args:
            strategy: single, ddp or fsdp2.
            num_devices: How many devices share the work; a single one has all of it.
        """
        states = (1 + ADAM) * self.trainable  # a gradient and Adam's two moments, fp32 as the parameter
        moving = self.kept + self.loss
        if strategy == "fsdp2":
            return (self.weights + states) // num_devices + 2 * self.largest + moving
        buckets = self.trainable if strategy == "ddp" else 0  # gradients are gathered in buckets of their own
        return self.weights + states + buckets + moving


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
            yield Step(stage, *_counted(pair, tiles, text_tokens))


def parameters_by_part(folder: ModelFolder) -> dict[str, int]:
    """Return how many parameters vision tower, projector and language model have."""
    counts = dict.fromkeys(PARTS, 0)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(folder.config)
    for name, parameter in model.named_parameters():
        counts[part_of(name)] += parameter.numel()
    return counts


def _counted(pair: StudentTeacher, tiles: int, text_tokens: int) -> tuple[int, int, int, int, int]:
    """Return weights, trainable, largest, kept and loss of a step."""
    parameters = list(pair.parameters())
    weights = sum(each.numel() for each in parameters) * FP32
    trainable = sum(each.numel() for each in parameters if each.requires_grad) * FP32
    blocks = [*pair.student.model.language_model.layers, *pair.student.model.vision_tower.encoder.layer]
    sizes = [sum(each.numel() for each in block.parameters()) for block in blocks]
    largest = max(*sizes, pair.head_weight.numel()) * FP32
    rows = min(CHUNK_ROWS, text_tokens)
    vocabulary, width = pair.head_weight.shape
    loss = rows * vocabulary * FP32 * LOGITS + vocabulary * width * BF16
    return weights, trainable, largest, _kept(pair, tiles, text_tokens), loss


def _kept(pair: StudentTeacher, tiles: int, text_tokens: int) -> int:
    """Return the bytes that the forward pass keeps for the backward pass.

    Layers of a tower are alike, so one and two of each are run, and the others follow.
    """
    reader, tower = pair.student.model.language_model, pair.student.model.vision_tower.encoder
    layers, tower_layers = reader.layers, tower.layer
    own = {parameter.untyped_storage()._cdata for parameter in pair.parameters()}
    counted = {}
    try:
        for shape in ((1, 1), (2, 1), (1, 2)):
            reader.layers, tower.layer = layers[: shape[0]], tower_layers[: shape[1]]
            counted[shape] = _kept_by_forward(pair, tiles, text_tokens, own)
    finally:
        reader.layers, tower.layer = layers, tower_layers
    first = counted[1, 1]
    return first + (len(layers) - 1) * (counted[2, 1] - first) + (len(tower_layers) - 1) * (counted[1, 2] - first)


def _kept_by_forward(pair: StudentTeacher, tiles: int, text_tokens: int, own: set[int]) -> int:
    """Run the forward pass and add up what it keeps: each storage once, those of parameters (`own`) left out."""
    kept: dict[int, int] = {}
    model, size = pair.student.model, pair.student.config.vision_config.image_size[0]
    length = tiles * pair.student.config.image_seq_length + text_tokens

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
        visual = model.multi_modal_projector(features).flatten(0, 1)[None]
        text = pair.student.get_input_embeddings()(torch.zeros(1, text_tokens, dtype=torch.long))
        embeddings = torch.cat([visual.to(text.dtype), text], dim=1)
        hidden = model.language_model(inputs_embeds=embeddings, use_cache=False)[0]
    total = sum(kept.values())
    del hidden  # it holds the graph, and with it every storage that was counted
    return total
