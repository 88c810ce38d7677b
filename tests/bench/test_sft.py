"""What `bench sft` measures is the step that `fit` runs."""

import json

import pytest
import torch

from fcot.bench.sft import assemble, count, sft
from fcot.bench.workload import Pages, model_folder
from fcot.models.spec import StudentSpec


@pytest.mark.parametrize(("ratio", "tflop"), [(2, 50.5), (4, 42.0)])
def test_a_step_of_post_training_costs_what_its_shapes_say(ratio, tflop):
    with model_folder("2b") as folder:
        counted = count(folder, StudentSpec.of("conv", ratio), Pages(13, 50, 500), 1024)
    assert counted == pytest.approx(tflop, rel=0.015)


def test_all_parameters_learn_and_there_is_no_teacher(tiny_checkpoint):
    module, batch = assemble(tiny_checkpoint, StudentSpec.of("conv", 2), Pages(2, 6, 5), torch.device("cpu"), 64)
    module.losses(batch)["loss"].backward()
    assert module.pair.teacher_projector is None
    trained = dict(module.pair.trainable())
    assert all(parameter.grad is not None for parameter in trained.values())
    assert {name.split(".")[2] for name in trained} >= {"vision_tower", "language_model", "multi_modal_projector"}


def test_stored_and_recomputed_activations_are_measured_in_turn(tiny_checkpoint, tmp_path, capsys):
    file = tmp_path / "found.json"
    sft(str(tiny_checkpoint), tiles=8, prompt=6, answer=4, device="cpu", repeats=2, json=str(file))
    found = json.loads(file.read_text())
    stored, recomputed = found["measured"]["stored"], found["measured"]["recomputed"]
    assert stored["loss"] == pytest.approx(recomputed["loss"], rel=1e-3)
    assert stored["weight_bytes"] == recomputed["weight_bytes"]
    assert recomputed["peak_bytes"] < stored["peak_bytes"]
    assert all(0 < kind["share_of_matmul_rate"] < 1 for kind in (stored, recomputed))
    assert "recomputed" in capsys.readouterr().out
    sft("2b", device="meta")
    assert "50.8" in capsys.readouterr().out
