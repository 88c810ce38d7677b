"""Both stages' loss and gradients on a CUDA device are those of a CPU, however samples are laid out and computed."""

from __future__ import annotations

import shutil
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from fcot.bench.measure import peak_memory
from fcot.compress import COMPRESSORS
from fcot.training.base_task import BaseTask
from fcot.training.realign import Realign
from fcot.training.sft import SFT

pytestmark = pytest.mark.gpu

SAMPLES = (
    ("What?", "a short one", 2),
    ("2 + 2?", "4", 0),
    ("And a longer question?", "x", 1),
    ("Total", "a rather longer answer", 3),
)
REALIGN = {
    "halved": {"ratio": 2},
    "quartered, softened": {"ratio": 4, "temperature": 2.0, "kl_weight": 0.7, "chunk_rows": 5},
    "two students": {"ratios": [2, 4]},
    "elastic": {"ratios": [2, 4], "elastic": True},
    "kept positions": {"ratio": 2, "keep_positions": True},
}
SHARE = {"token": {}, "by sample, in chunks": {"reduction": "sample", "chunk_rows": 5}}
LAYOUTS = {"padded": None, "one pack": 10**6, "packs": 73}
EXACT = {"loss": 1e-5, "gradient": 1e-4}  # another order of sums; the gradient is a sum over all tokens
# each weight and product in bf16 is up to 2^-9 off; on a CPU that makes up to 0.002 and 0.02
ROUNDED = {"loss": 0.01, "gradient": 0.06}


def task(checkpoint: Any, kind: type[BaseTask], **options: Any) -> BaseTask:
    """A stage whose student is far from the teacher, so that no divergence is a rounding error."""
    made = kind(checkpoint, **options)
    made.configure_model()
    draw = torch.Generator().manual_seed(0)
    for name, parameter in made.pair.trainable():
        if "multi_modal_projector" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return made


def batch_of(make_batch: Any, module: BaseTask, layout: str) -> Any:
    first, *more = module.branches.values()
    return make_batch(*SAMPLES, ratio=first, more=tuple(more), token_budget=LAYOUTS[layout])


def step(module: BaseTask, batch: Any, dtype: torch.dtype | None = None) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Every mean of a step, and its gradients on the CPU; under autocast if a type is given."""
    module.zero_grad()
    batch = batch.to(module.device)
    with torch.autocast(module.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        found = module.losses(batch)
    found["loss"].backward()
    means = {name: value.item() for name, value in found.items() if value.ndim == 0}
    return means, {name: parameter.grad.float().cpu().clone() for name, parameter in module.pair.trainable()}


def same(found: Any, expected: Any, tolerance: dict[str, float]) -> None:
    for name, value in expected[0].items():
        if not name.startswith("agreement"):  # a share of few tokens: one near tie changes it a lot
            assert found[0][name] == pytest.approx(value, rel=tolerance["loss"], abs=1e-6), name
    assert found[1].keys() == expected[1].keys()
    whole = torch.cat([gradient.flatten() for gradient in expected[1].values()]).norm()
    for name, gradient in expected[1].items():
        # a gradient that is next to nothing beside the others is rounding errors of theirs
        size = max(gradient.norm(), 1e-2 * whole)
        assert (found[1][name] - gradient).norm() <= tolerance["gradient"] * size, name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", REALIGN.values(), ids=REALIGN)
def test_realignment_is_that_of_a_cpu(tiny_checkpoint, make_batch, device, options, layout):
    module = task(tiny_checkpoint, Realign, **options)
    batch = batch_of(make_batch, module, layout)
    expected = step(module, batch)
    same(step(module.to(device), batch), expected, EXACT)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", SHARE.values(), ids=SHARE)
def test_post_training_is_that_of_a_cpu(student_folder, make_batch, device, options, layout):
    module = task(student_folder, SFT, **options)
    batch = batch_of(make_batch, module, layout)
    expected = step(module, batch)
    same(step(module.to(device), batch), expected, EXACT)


@pytest.fixture
def deterministic():
    """Only algorithms that repeat bit for bit, as `trainer.deterministic` asks for."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", sorted(COMPRESSORS.keys() - {"identity"}))
def test_every_compressor_learns_as_on_a_cpu_and_repeats_bit_for_bit(
    tiny_checkpoint, make_batch, device, deterministic, name
):
    module = task(tiny_checkpoint, Realign, compressor=name, ratio=4, placement=COMPRESSORS[name].places[0])
    module.pair.train_parts("vision", "projector")  # the gradient passes through the compressor, too
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # devices draw differently
    batch = batch_of(make_batch, module, "packs")
    expected = step(module, batch)
    module.to(device)
    first, second = (step(module, batch) for _ in range(2))
    same(first, expected, EXACT)
    assert first[0] == second[0]
    assert [each for each, gradient in first[1].items() if not gradient.equal(second[1][each])] == []


@pytest.mark.parametrize("kind", [Realign, SFT])
def test_packed_samples_are_those_of_padded_rows(tiny_checkpoint, student_folder, make_batch, device, kind):
    module = task(student_folder if kind is SFT else tiny_checkpoint, kind).to(device)
    padded, packed, packs = (step(module, batch_of(make_batch, module, layout)) for layout in LAYOUTS)
    same(packed, padded, EXACT)
    same(packs, padded, EXACT)


@pytest.mark.parametrize("layout", ["padded", "packs"])
@pytest.mark.parametrize("kind", [Realign, SFT])
def test_bf16_is_fp32_of_a_cpu_but_for_rounding(tiny_checkpoint, student_folder, make_batch, device, kind, layout):
    module = task(student_folder if kind is SFT else tiny_checkpoint, kind)
    batch = batch_of(make_batch, module, layout)
    expected = step(module, batch)
    mixed = deepcopy(module).to(device)
    mixed.pair.keep_frozen_in(torch.bfloat16)  # as bf16-mixed does
    same(step(mixed, batch, torch.bfloat16), expected, ROUNDED)
    pure = deepcopy(module).to(device)
    pure.pair.to(torch.bfloat16)
    same(step(pure, batch), expected, ROUNDED)


@pytest.mark.parametrize("layout", ["padded", "one pack"])
@pytest.mark.parametrize("kind", [Realign, SFT])
def test_activations_computed_again_change_nothing(tiny_checkpoint, student_folder, make_batch, device, kind, layout):
    module = task(student_folder if kind is SFT else tiny_checkpoint, kind, checkpoint_activations=True).to(device)
    batch = batch_of(make_batch, module, layout)
    again = step(module, batch)
    module.pair.checkpointing = False
    module.pair.student.model.vision_tower.gradient_checkpointing_disable()
    same(again, step(module, batch), EXACT)


@pytest.fixture(scope="module")
def deep_checkpoint(tmp_path_factory):
    """A model whose layers' activations are most of what a step takes."""
    from transformers import AutoConfig, InternVLForConditionalGeneration

    from fcot.tiny import write_architecture

    folder = write_architecture(
        tmp_path_factory.mktemp("deep") / "tiny", tile_size=56, width=128, vision_layers=1, text_layers=8, heads=4
    )
    torch.manual_seed(0)
    InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", [Realign, SFT])
def test_activations_computed_again_take_less_memory(deep_checkpoint, make_batch, device, kind):
    module = kind(deep_checkpoint, chunk_rows=16)
    module.configure_model()
    module.to(device)
    text = "a question of many letters, " * (30 if device.type == "cuda" else 10)
    ratio = module.branches["student"]
    batch = make_batch(*((text, f"answer {number}", 1) for number in range(8)), ratio=ratio).to(device)

    def peak(again: bool) -> int:
        module.pair.checkpointing = again
        for parameter in module.pair.parameters():  # gradients are there before and after
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        return peak_memory(lambda: module.losses(batch)["loss"].backward(), device)

    peak(False)  # what libraries take for good is not counted
    assert peak(True) < 0.6 * peak(False)


def test_compiled_layers_give_the_same(deep_checkpoint, make_batch, device):
    """The last of all, for it takes the longest."""
    if not (shutil.which("gcc") or shutil.which("cc")):
        pytest.skip("torch.compile needs a compiler of C")
    module = task(deep_checkpoint, Realign).to(device)
    layers = module.pair.student.model.language_model.layers
    del layers[:-3]  # all are alike, and each is compiled
    batches = [batch_of(make_batch, module, layout) for layout in ("padded", "one pack")]
    expected = [step(module, batch) for batch in batches]
    module.pair.compile_layers()
    for batch, known in zip(batches, expected, strict=True):
        same(step(module, batch), known, EXACT)
