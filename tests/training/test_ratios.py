"""Students at several ratios from one run are those of a run each."""

import json

import pytest
import torch

from callbacks import Predictions, SaveStudent, ShapleyMerge, Snapshots
from fcot.errors import UserError
from fcot.models.student_folder import load_student
from fcot.training.realign import Realign
from fcot.training.sft import SFT

SAMPLES = (("What?", "a short one", 2), ("And a longer question?", "x", 1), ("2 + 2?", "4", 0))
FIRST = "student.model.multi_modal_projector."


def predictions(file):
    """Answers by sample key."""
    return {line["key"]: line["prediction"] for line in map(json.loads, file.open())}


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


def test_losses_and_gradients_are_those_of_a_run_each(tiny_checkpoint, make_batch):
    both = Realign(tiny_checkpoint, ratios=[2, 4], temperature=2.0, ce_weight=0.5)
    both.configure_model()
    calls = []
    both.pair.student.model.vision_tower.register_forward_hook(lambda *_: calls.append("vision"))
    both.pair.student.model.language_model.norm.register_forward_hook(lambda *_: calls.append("language"))
    found = both.losses(make_batch(*SAMPLES, more=(4,)))
    found["loss"].backward()
    assert calls == ["vision", "language", "language", "language"]
    total = 0.0
    for ratio, prefix in ((2, FIRST), (4, f"further.student-r4.{FIRST.removeprefix('student.')}")):
        alone = Realign(tiny_checkpoint, ratio=ratio, temperature=2.0, ce_weight=0.5)
        alone.configure_model()
        expected = alone.losses(make_batch(*SAMPLES, ratio=ratio))
        expected["loss"].backward()
        for name in ("kl", "ce", "agreement"):
            assert found[f"{name}_r{ratio}"].item() == pytest.approx(expected[name].item(), rel=1e-6)
        total += expected["loss"].item()
        ours = {name: p.grad for name, p in both.pair.trainable() if name.startswith(prefix)}
        assert ours
        for name, parameter in alone.pair.trainable():
            torch.testing.assert_close(ours[name.replace(FIRST, prefix)], parameter.grad, rtol=1e-5, atol=1e-7)
    assert found["loss"].item() == pytest.approx(total, rel=1e-6)
    assert all(p.grad is None for _, p in both.pair.frozen())


def test_students_of_one_run_are_saved_and_tested_as_those_of_a_run_each(tmp_path, tiny_checkpoint, pages, trainer):
    def train(name, *callbacks, **ratios):
        run = trainer(tmp_path / name, SaveStudent(), *callbacks, max_steps=2, gradient_clip_val=0.01)
        module = Realign(tiny_checkpoint, optimizer=adamw, max_new_tokens=4, **ratios)
        run.fit(module, pages)
        return run, module

    run, module = train("both", Snapshots(count=1), Predictions(pages=2), ratios=[2, 4])
    run.test(module, pages, verbose=False)
    run.predict(module, pages)
    shown = [json.loads(line) for line in (tmp_path / "both/predictions.jsonl").open()]
    assert len(shown) == 2
    for ratio, suffix in ((2, ""), (4, "-r4")):
        train(f"r{ratio}", ratio=ratio)
        ours, alone = load_student(tmp_path / f"both/student{suffix}"), load_student(tmp_path / f"r{ratio}/student")
        assert ours.config.ratio == alone.config.ratio == ratio
        for name, tensor in alone.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
        row = json.loads((tmp_path / f"both/test{suffix}.json").read_text())
        tester = trainer(tmp_path / f"test-r{ratio}")
        tester.test(SFT(tmp_path / f"both/student{suffix}", max_new_tokens=4), pages, verbose=False)
        own = json.loads((tmp_path / f"test-r{ratio}/test.json").read_text())
        assert (row["ratio"], row["scores"], row["visual_tokens"]) == (ratio, own["scores"], own["visual_tokens"])
        answers = predictions(tmp_path / f"both/test{suffix}.jsonl")
        assert answers == predictions(tmp_path / f"test-r{ratio}/test.jsonl")
        assert answers == predictions(tmp_path / f"both/predict{suffix}.jsonl")
        assert [line[f"student{suffix}"] for line in shown] == [answers[line["key"]] for line in shown]
        for folder, changed in (("base", False), ("step-000002", True)):
            kept = load_student(tmp_path / f"both/snapshots{suffix}/{folder}").state_dict()
            assert changed == all(torch.equal(tensor, kept[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("limit", [0, None])
def test_students_whose_gradients_are_not_to_be_clipped_learn(tmp_path, tiny_checkpoint, pages, trainer, limit):
    module = Realign(tiny_checkpoint, ratios=[2, 4], optimizer=adamw, warmup=0)
    run = trainer(tmp_path, max_steps=1, gradient_clip_val=limit)
    run.fit(module, pages)
    for name, parameter in module.pair.trainable():
        assert run.optimizers[0].state[parameter]["exp_avg"].any(), name


@pytest.mark.parametrize("ratios", [[], [2, 2]])
def test_ratios_are_given_once_each(tiny_checkpoint, ratios):
    with pytest.raises(UserError, match=r"ratios is .*\nGive each ratio once"):
        Realign(tiny_checkpoint, ratios=ratios)


def test_a_merge_of_several_students_is_refused_before_training(tmp_path, tiny_checkpoint, pages, trainer):
    run = trainer(tmp_path, Snapshots(count=2), ShapleyMerge(), max_steps=2)
    with pytest.raises(UserError, match=r"this run trains student, student-r4\.\nGive one ratio"):
        run.fit(Realign(tiny_checkpoint, ratios=[2, 4]), pages)
    assert not (tmp_path / "snapshots").exists()
