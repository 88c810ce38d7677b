"""The FLOPs of a step at real sizes, and what its savings must not change: its result."""

import json

import pytest
import torch

from fcot.bench.measure import weight_bytes
from fcot.bench.naive import NaiveStep
from fcot.bench.step import count, step
from fcot.bench.workload import Pages, model_folder
from fcot.cli.main import main
from fcot.internvl.checkpoint import ModelFolder
from fcot.training.realign import Realign

PARTS = {"vit", "projector", "teacher_llm", "student_llm_forward", "student_llm_backward", "head"}
SAMPLES = (("What?", "a short one", 2), ("And a longer question?", "x", 1), ("Total", "a rather longer answer", 3))


@pytest.mark.parametrize(
    ("model", "ratios", "design", "naive"),
    [
        ("2b", [2], 37.77, 58.2),
        ("2b", [4], 31.88, None),
        pytest.param("2b", [2, 4], 47.23, 58.2 + 48.4, marks=pytest.mark.slow),
        ("8b", [2], 132.69, None),
        ("8b", [4], 107.31, None),
    ],
)
def test_a_step_costs_what_its_design_says(model, ratios, design, naive):
    with model_folder(model) as folder:
        counted = count(folder, ratios, Pages(tiles=13, prompt=50, answer=500), naive=naive is not None)
    assert counted["parts"].keys() == PARTS
    assert counted["total"] == pytest.approx(sum(counted["parts"].values()))
    assert counted["total"] == pytest.approx(design, rel=0.005)
    assert counted["parts"]["vit"] == pytest.approx(9.41, rel=1e-3)  # 13 tiles, each seen once
    assert counted.get("naive_total") == (naive and pytest.approx(naive, rel=0.01))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "most"), [("2b", 1.28), ("8b", 1.34)])
def test_an_elastic_step_costs_little_more_than_one_at_ratio_2(model, most):
    pages = Pages(tiles=13, prompt=50, answer=500)
    with model_folder(model) as folder:
        elastic, alone = (
            count(folder, [2, 4], pages, elastic=True)["total"],
            count(folder, [2], pages)["total"],
        )
    assert 1.2 < elastic / alone <= most


def test_only_answer_tokens_meet_the_head(tiny_checkpoint):
    short, long = (count(tiny_checkpoint, [2], Pages(2, prompt, 50)) for prompt in (20, 1020))
    config = ModelFolder(tiny_checkpoint).config.text_config
    # teacher's logits, student's logits, gradient of the student's rows
    assert short["parts"]["head"] * 1e12 == 3 * 2 * 50 * config.hidden_size * config.vocab_size
    assert long["parts"]["head"] == short["parts"]["head"]
    # the teacher's logits are computed once, whatever the number of students
    both = count(tiny_checkpoint, [2, 4], Pages(2, 20, 50))
    assert both["parts"]["head"] == pytest.approx(short["parts"]["head"] * 5 / 3)
    assert long["parts"]["vit"] == short["parts"]["vit"]
    assert long["parts"]["teacher_llm"] > 2 * short["parts"]["teacher_llm"]


def test_a_student_that_learns_nothing_but_its_prefix_has_no_weight_gradients(tiny_checkpoint):
    parts = count(tiny_checkpoint, [1], Pages(0, 1, 60))["parts"]
    linear = count(tiny_checkpoint, [1], Pages(0, 1, 120))["parts"]
    # products with weights are linear in the length, attention is quadratic: solve for the first
    forward, backward = (
        2 * parts[f"student_llm_{way}"] - linear[f"student_llm_{way}"] / 2 for way in ("forward", "backward")
    )
    assert backward == pytest.approx(forward, rel=0.02)


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "kl_weight": 0.7, "ce_weight": 0.3, "chunk_rows": 5}])
@pytest.mark.parametrize("ratio", [2, 4])
def test_loss_and_gradients_equal_a_naive_step(tiny_checkpoint, make_batch, ratio, options):
    module, batch = Realign(tiny_checkpoint, ratio=ratio, **options), make_batch(*SAMPLES, ratio=ratio)
    module.configure_model()
    torch.manual_seed(0)
    for _, parameter in module.pair.trainable():  # far from the teacher: the divergence is no rounding error
        torch.nn.init.normal_(parameter, std=0.3)
    naive = NaiveStep.of(module.pair, ModelFolder(tiny_checkpoint).config)["student"]
    found = module.losses(batch)["loss"]
    found.backward()
    expected = naive.loss(batch, **{name: value for name, value in options.items() if name != "chunk_rows"})
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = {name: parameter.grad for name, parameter in naive.trained()}
    prefix = "student.model.multi_modal_projector."
    assert {name.removeprefix(prefix) for name, _ in module.pair.trainable()} == gradients.keys()
    for name, parameter in module.pair.trainable():
        difference = parameter.grad - gradients[name.removeprefix(prefix)]
        assert difference.norm() < 1e-5 * parameter.grad.norm(), name
    assert all(tensor.grad is None for _, tensor in module.pair.frozen())


def test_the_command_prints_json_alone_on_standard_output(tiny_checkpoint, capsys):
    words = ["--tiles", "2", "--prompt", "5", "--answer", "7", "--device", "meta", "--json", "-"]
    main(["bench", "step", "--model", str(tiny_checkpoint), *words])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["parts"].keys() == PARTS
    assert (found["device"], found["unit"], found["answer"]) == ("meta", "TFLOP", 7)
    assert found["environment"]["torch"] == torch.__version__
    assert "student llm backward" in err
    assert "counted on the meta device" in err


def test_on_a_real_device_both_steps_are_measured_and_agree(tiny_checkpoint, tmp_path, capsys):
    pages = {"tiles": 2, "prompt": 5, "answer": 7, "batch": 2}
    step(str(tiny_checkpoint), **pages, device="cpu", repeats=1, json=str(tmp_path / "step.json"))
    found = json.loads((tmp_path / "step.json").read_text())
    ours, naive = found["measured"]["step"], found["measured"]["naive"]
    assert ours["loss"] == pytest.approx(naive["loss"], rel=1e-5)
    assert ours["seconds_by_part"].keys() == PARTS
    for spread in (*ours["seconds_by_part"].values(), found["measured"]["times_faster"]):
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
    assert ours["samples_per_second"] == pytest.approx(2 / ours["seconds"]["median"])
    assert ours["weight_bytes"] < naive["weight_bytes"] < 2 * ours["weight_bytes"]
    assert 0 < ours["peak_bytes"] - ours["weight_bytes"] < naive["peak_bytes"] - naive["weight_bytes"]
    assert "measured on cpu" in capsys.readouterr().out


def test_both_steps_are_timed_in_turn(tiny_checkpoint, monkeypatch):
    done = []

    def noted(kind, name):
        method = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda *args, **options: done.append(kind) or method(*args, **options))

    noted(Realign, "losses")
    noted(NaiveStep, "loss")
    step(str(tiny_checkpoint), tiles=1, prompt=5, answer=3, device="cpu", repeats=2)
    done = done[2:]  # the count of each on the meta device
    assert done[:9] == [Realign, Realign, NaiveStep] * 3  # ours by part too


def test_a_naive_step_beside_its_container_takes_no_third_copy_of_the_trunk(tiny_checkpoint):
    module = Realign(tiny_checkpoint, ratios=[2, 4])
    module.configure_model()
    steps = list(NaiveStep.of(module.pair, ModelFolder(tiny_checkpoint).config).values())
    trunk = weight_bytes(module.pair.student.model.language_model, module.pair.student.model.vision_tower)
    learns = sum(parameter.nbytes for _, parameter in module.pair.trainable())
    assert weight_bytes(module.pair, *steps) == weight_bytes(*steps) + learns
    assert weight_bytes(*steps) == weight_bytes(steps[0]) + sum(weight.nbytes for _, weight in steps[1].trained())
    assert weight_bytes(steps[0]) > 2 * trunk  # alone it has two, as a first version would


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "2B"], "no size and no folder '2B'. Did you mean '2b'"),
        (["--device", "gpu"], "no device 'gpu'"),
        (["--answer", "0"], "answer is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, said, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "step", "--device", "meta", *words])
    assert said in capsys.readouterr().err
