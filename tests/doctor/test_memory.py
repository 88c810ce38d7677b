from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback
from transformers import AutoConfig

from fcot.doctor.memory import Step, _kept_by_forward, cast, parameters_by_part, training_steps
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import StudentTeacher, part_of
from fcot.tiny import write_architecture
from fcot.training.realign import Realign
from fcot.training.sft import SFT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A configuration without weights, of three and two layers."""
    path = tmp_path_factory.mktemp("architecture")
    return ModelFolder(write_architecture(path, tile_size=56, width=32, vision_layers=3, text_layers=2, heads=2))


class Allocated(Callback):
    """Counts what a training holds before its optimizer's step, and after it."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients = sum(p.grad.nbytes for p in module.parameters() if p.grad is not None)

    def on_train_end(self, trainer, module):
        self.weights = sum(p.nbytes for p in module.parameters())
        states = [each for state in trainer.optimizers[0].state.values() for each in state.values()]
        self.states = sum(each.nbytes for each in states if each.ndim)


@pytest.mark.parametrize(("kind", "stage"), [(Realign, "re-align"), (SFT, "sft")])
def test_what_is_counted_is_what_a_training_holds(kind, stage, tiny_checkpoint, pages, tmp_path, trainer):
    found = Allocated()
    trainer(tmp_path, found, max_steps=1, precision="bf16-mixed").fit(kind(tiny_checkpoint), pages)
    steps = training_steps(ModelFolder(tiny_checkpoint), tiles=1, text_tokens=40, ratio=2 if stage == "re-align" else 1)
    step = next(step for step in steps if step.stage == stage)
    assert (step.weights, step.trainable) == (found.weights, found.gradients)
    assert found.states == 2 * step.trainable
    assert step.total("single", 1) == found.weights + found.gradients + found.states + step.kept + step.loss


def test_what_is_counted_is_what_a_real_forward_pass_keeps(folder):
    steps = {step.stage: step for step in training_steps(folder, tiles=3, text_tokens=40, ratio=2)}
    pair = StudentTeacher(folder.path, compressor="conv", ratio=2, from_scratch=True)
    for stage, parts in (("re-align", ["projector"]), ("sft", ["vision", "projector", "llm"])):
        pair.train_parts(*parts)
        for dtype, expected in ((torch.float32, steps[stage].kept), (torch.bfloat16, steps[stage].kept_gathered)):
            cast(pair, dtype)
            own = {parameter.untyped_storage()._cdata for parameter in pair.parameters()}
            if dtype == torch.float32 or stage == "sft":
                assert expected == pytest.approx(_kept_by_forward(pair, 3, 40, own), rel=1e-3)
    assert steps["re-align"].kept < steps["sft"].kept_gathered < steps["sft"].kept


def test_a_student_is_not_re_aligned_and_keeps_its_ratio(tiny_checkpoint, tmp_path):
    pair = StudentTeacher(tiny_checkpoint, compressor="conv", ratio=4)
    save_student(pair.student, tmp_path, tiny_checkpoint)
    (step,) = training_steps(ModelFolder(tmp_path), tiles=3, text_tokens=40, ratio=2)
    assert step.stage == "sft"


def test_the_parts_add_up_to_the_model(tiny_checkpoint):
    counts = dict.fromkeys(("vision", "projector", "llm"), 0)
    for name, parameter in load_student(tiny_checkpoint).named_parameters():
        counts[part_of(name)] += parameter.numel()
    assert parameters_by_part(ModelFolder(tiny_checkpoint)) == counts
    assert AutoConfig.from_pretrained(tiny_checkpoint).model_type == "internvl"


def test_strategies_share_what_they_share():
    step = Step("sft", weights=800, trainable=400, layer=10, outside=20, kept=7, kept_gathered=5, loss=3)
    assert step.total("single", 8) == 800 + 3 * 400 + 10
    assert step.total("ddp", 8) == step.total("single", 8) + 400  # nothing is shared, gradients wait in buckets
    assert step.total("fsdp2", 8) == (800 + 3 * 400) // 8 + 5 * 10 + 2 * 20 + 8
    assert replace(step, stage="re-align").total("fsdp2", 8) is None


@pytest.mark.parametrize(("name", "options"), [("token_packer", {"levels": [2, 3]}), ("llama_vid", {})])
def test_students_that_read_more_than_the_tokens_are_counted(folder, tmp_path, name, options):
    pair = StudentTeacher(folder.path, compressor=name, compressor_options=options, ratio=2, from_scratch=True)
    save_student(pair.student, tmp_path / name, folder.path)
    steps = [*training_steps(ModelFolder(tmp_path / name), tiles=2, text_tokens=9, ratio=1)]
    assert steps and all(step.kept > 0 for step in steps)
