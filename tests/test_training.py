"""Short runs through the real Trainer, on a tiny model and a few pages."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from callbacks import SaveStudent, ShapleyMerge, Snapshots
from fcot.errors import UserError
from fcot.internvl.tokens import IGNORED, normalize
from fcot.pair import StudentTeacher, part_of
from fcot.realign import Realign
from fcot.sft import SFT
from fcot.student import CompressedInternVL, load_student, save_student
from fcot.trainer import Trainer
from shards.datamodule import Shards

PEAK = 0.01


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=PEAK, weight_decay=0.1)


@pytest.fixture
def pages(tiny_shards):
    return Shards(tiny_shards, batch_size=4, eval_batch_size=8, num_workers=0)


def trainer(folder, *callbacks, **options):
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        **{"logger": False, "limit_val_batches": 0, "checkpoint_every_n_steps": 0, **options},
    )


@pytest.fixture(scope="module")
def student_folder(tiny_checkpoint, tmp_path_factory):
    """A student as re-alignment saves it."""
    folder = tmp_path_factory.mktemp("student")
    save_student(StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2).student, folder, tiny_checkpoint)
    return folder


def weights(module):
    return {name: tensor.clone() for name, tensor in module.pair.student.state_dict().items()}


class RecordRates(torch.optim.AdamW):
    """AdamW that remembers each group's learning rate at every step."""

    def step(self, closure=None):
        out = super().step(closure)
        rates.append({group["name"]: group["lr"] for group in self.param_groups})
        return out


rates: list[dict[str, float]] = []


def test_realignment_learns_projector_and_compressor_and_saves_a_student(tmp_path, tiny_checkpoint, pages, capsys):
    module = Realign(tiny_checkpoint, optimizer=adamw)
    trainer(tmp_path, SaveStudent(), max_steps=3).fit(module, pages)
    assert "Re-alignment trains" in capsys.readouterr().out
    native, saved = load_student(tiny_checkpoint).state_dict(), load_student(tmp_path / "student")
    assert isinstance(saved, CompressedInternVL)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, module.pair.student.state_dict()[name])
        if part_of(name) != "projector":
            assert torch.equal(tensor, native[name]), name
        elif name in native:
            assert not torch.equal(tensor, native[name]), name


def test_a_step_looks_at_each_page_once(tiny_checkpoint, make_batch):
    module, calls = Realign(tiny_checkpoint), []
    module.configure_model()
    module.pair.student.model.vision_tower.register_forward_hook(lambda *_: calls.append("vision"))
    module.pair.student.model.language_model.register_forward_hook(lambda *_: calls.append("language"))
    module.losses(make_batch(("What?", "this", 2)))["loss"].backward()
    assert calls == ["vision", "language", "language"]


def test_losses_are_those_of_two_separate_models(tiny_checkpoint, make_batch):
    """The shared container against a teacher and a student that have nothing in common."""
    module = Realign(tiny_checkpoint, temperature=2.0, ce_weight=0.5)
    batch = make_batch(("What?", "this", 2), ("A", "b", 1))
    module.configure_model()
    pair, teacher = module.pair, load_student(tiny_checkpoint)
    torch.manual_seed(0)
    for parameter in pair.student.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(parameter)  # far from the teacher, so that the divergence is no rounding error
    logits = {}
    for side, model in (("teacher", teacher), ("student", pair.student)):
        sequences = batch.sequences[side]
        out = model(
            input_ids=sequences.input_ids, pixel_values=normalize(batch.tiles, pair.mean, pair.std), use_cache=False
        ).logits
        logits[side] = out[:, :-1][sequences.labels[:, 1:] != IGNORED].double()
    labels = batch.sequences["student"].labels
    labels = labels[labels != IGNORED]
    log_t, log_s = ((logits[side] / 2).log_softmax(-1) for side in ("teacher", "student"))
    kl = (log_t.exp() * (log_t - log_s)).sum(-1).mean()
    ce = torch.nn.functional.cross_entropy(logits["student"], labels)
    found = module.losses(batch)
    assert float(found["loss"].detach()) == pytest.approx(float((4 * kl + 0.5 * ce).detach()), rel=1e-4)
    assert float(found["kl"]) == pytest.approx(float(kl.detach()), rel=1e-4)
    assert float(found["ce"]) == pytest.approx(float(ce.detach()), rel=1e-4)
    assert len(found["ce_rows"]) == len(labels)


def test_a_checkpoint_holds_what_learns_and_a_run_goes_on_from_it(tmp_path, tiny_checkpoint, pages):
    first = Realign(tiny_checkpoint, optimizer=adamw)
    run = trainer(tmp_path, max_steps=3)
    run.fit(first, pages)
    run.save_checkpoint(tmp_path / "at3.ckpt")
    saved = torch.load(tmp_path / "at3.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {f"pair.{name}" for name, _ in first.pair.trainable()}
    assert all(".multi_modal_projector." in name for name in saved["state_dict"])
    assert saved["frozen_sha256"] == first.pair.frozen_digest()

    class Starts(SaveStudent):
        """Remembers the weights a run starts from."""

        def on_train_start(self, trainer, module):
            self.step, self.weights = trainer.global_step, weights(module)

    seen = Starts()
    second = trainer(tmp_path / "second", seen, max_steps=5)
    second.fit(Realign(tiny_checkpoint, optimizer=adamw), pages, ckpt_path=tmp_path / "at3.ckpt", weights_only=True)
    assert (seen.step, second.global_step) == (3, 5)
    assert all(torch.equal(tensor, weights(first)[name]) for name, tensor in seen.weights.items())


def test_a_checkpoint_of_another_base_or_compressor_is_refused(tmp_path, tiny_checkpoint, pages):
    run = trainer(tmp_path, max_steps=1)
    run.fit(Realign(tiny_checkpoint), pages)
    run.save_checkpoint(tmp_path / "one.ckpt")

    def resume(module):
        trainer(tmp_path, max_steps=2).fit(module, pages, ckpt_path=tmp_path / "one.ckpt", weights_only=True)

    other = tmp_path / "other"
    changed = load_student(tiny_checkpoint)
    torch.nn.init.ones_(changed.lm_head.weight)
    save_student(changed, other, tiny_checkpoint)
    with pytest.raises(UserError, match=r"another base than .*other \(frozen weights differ\)"):
        resume(Realign(other))
    with pytest.raises(UserError, match="train different tensors"):
        resume(Realign(tiny_checkpoint, compressor="pool"))


def test_gradients_of_all_parts_by_default_and_of_none_that_is_frozen(tmp_path, student_folder, pages):
    module = SFT(student_folder, optimizer=adamw, freeze=["vision"], drop_path=0.1)
    module.configure_model()
    before = weights(module)
    trainer(tmp_path, max_steps=2).fit(module, pages)
    changed = {name for name, tensor in weights(module).items() if not torch.equal(tensor, before[name])}
    assert {part_of(name) for name in changed} == {"projector", "llm"}
    assert {part_of(name) for name, _ in SFT(student_folder).build().trainable()} == {"vision", "projector", "llm"}


def test_learning_rates_are_scaled_by_part(tmp_path, student_folder, pages):
    rates.clear()
    module = SFT(
        student_folder, optimizer=lambda p: RecordRates(p, lr=PEAK), lr_scale={"vision": 0.1, "llm": 0.5}, warmup=2
    )
    trainer(tmp_path, max_steps=4).fit(module, pages)
    cosine = [0.5, 1.0, 1.0, 0.5 * (1 + math.cos(math.pi / 2))]
    for part, scale in (("projector", 1.0), ("vision", 0.1), ("llm", 0.5)):
        assert [rate[part] for rate in rates] == pytest.approx([PEAK * scale * share for share in cosine])


def test_vectors_do_not_decay(tmp_path, tiny_checkpoint, pages):
    module = Realign(tiny_checkpoint, optimizer=adamw)
    run = trainer(tmp_path, max_steps=1)
    run.fit(module, pages)
    for group in run.optimizers[0].param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


@pytest.mark.parametrize("option", [{"freeze": ["audio"]}, {"lr_scale": {"audio": 0.1}}])
def test_unknown_parts_are_refused(student_folder, option):
    with pytest.raises(UserError, match=r"no part \['audio'\]\. Parts are vision, projector, llm"):
        SFT(student_folder, **option)


def test_a_run_without_an_end_is_refused(tmp_path, tiny_checkpoint, pages):
    with pytest.raises(UserError, match=r"max_steps is -1.*\nSet --trainer\.max_steps"):
        trainer(tmp_path, max_epochs=1).fit(Realign(tiny_checkpoint), pages)


def merging(tmp_path, checkpoint, pages, merge, **options):
    """Post-train for four steps with two snapshots, then merge."""
    module = SFT(checkpoint, optimizer=adamw, max_new_tokens=2)
    run = trainer(tmp_path, Snapshots(count=2), merge, max_steps=4, **options)
    run.fit(module, pages)
    return module


def test_snapshots_and_their_merge_are_model_folders(tmp_path, student_folder, pages):
    module = merging(tmp_path, student_folder, pages, ShapleyMerge(method="average"))
    names = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert names == ["base", "step-000002", "step-000004"]
    base, first, last = (load_file(tmp_path / "snapshots" / name / "model.safetensors") for name in names)
    start = load_student(student_folder).state_dict()
    assert all(torch.equal(base[name], tensor) for name, tensor in start.items())
    assert not torch.equal(first["lm_head.weight"], last["lm_head.weight"])

    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert (report["chosen"], report["split"], report["n"]) == ("average", "dev", 8)
    assert set(report["utilities"]) == {"", "step-000002", "step-000004", "step-000002+step-000004"}
    first_share, last_share = (report["weights"][name] for name in names[1:])
    merged = load_student(tmp_path / "merged")
    assert isinstance(merged, CompressedInternVL)
    assert (tmp_path / "merged" / "merge.png").stat().st_size > 1000
    for name, tensor in merged.state_dict().items():
        expected = base[name] + first_share * (first[name] - base[name]) + last_share * (last[name] - base[name])
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-7)
        assert torch.equal(module.pair.student.state_dict()[name], tensor)  # the module goes on as what was kept


def test_a_utility_of_ones_own_decides(tmp_path, student_folder, pages):
    merge = ShapleyMerge()
    # the higher the nearer to the first snapshot: v(first) = 1, v of all else is less
    target = []

    def nearness(mixture):
        if not target:
            target.append(load_file(tmp_path / "snapshots" / "step-000002" / "model.safetensors")["lm_head.weight"])
        return 1.0 - float((mixture["lm_head.weight"] - target[0]).abs().sum())

    merge.utility = nearness
    merging(tmp_path, student_folder, pages, merge)
    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert report["utilities"]["step-000002"] == pytest.approx(1.0, abs=1e-4)
    assert report["shapley"]["step-000002"] > report["shapley"]["step-000004"]
    assert sum(report["shapley"].values()) == pytest.approx(
        report["utilities"]["step-000002+step-000004"] - report["utilities"][""]
    )
    assert report["controls"][report["chosen"]]["utility"] == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(load_student(tmp_path / "merged").lm_head.weight.detach(), target[0])


def test_the_default_utility_is_the_dev_score_of_the_mixture(tmp_path, student_folder, pages, monkeypatch):
    seen = []

    def evaluate(module, loader):
        class Scored:
            def mean(self):
                seen.append((sum(map(len, loader)), module.pair.student.lm_head.weight.detach().clone()))
                return float(len(seen))

        return Scored()

    monkeypatch.setattr(SFT, "evaluate", evaluate)
    merging(tmp_path, student_folder, pages, ShapleyMerge(samples=5, random_draws=1))
    assert {pages_read for pages_read, _ in seen} == {5}
    assert any(torch.equal(weight, load_student(student_folder).lm_head.weight) for _, weight in seen)
    assert json.loads((tmp_path / "merged" / "merge.json").read_text())["n"] == 5


def test_token_accuracy_is_a_mean_over_tasks_of_right_next_tokens(tiny_checkpoint, make_batch):
    module = Realign(tiny_checkpoint)
    module.configure_model()
    batches = []
    for task, answers in (("long", ("abcdef", "gh")), ("short", ("i",))):
        batch = make_batch(*((f"{task} {answer}?", answer, 1) for answer in answers))
        batches.append(replace(batch, tasks=[task] * len(batch)))
    # teach the head: whatever the rows, it says "a"
    with torch.no_grad():
        module.pair.student.lm_head.weight.zero_()
        rows = torch.cat([module.pair.student_rows(batch) for batch in batches])
        said = module.folder.tokenizer.convert_tokens_to_ids("a")
        module.pair.student.lm_head.weight[said] = torch.linalg.pinv(rows) @ torch.ones(len(rows))
    module.train()
    # one of 7 + 3 tokens (end tokens counted) is right in the first task, none of 2 in the second
    assert module.token_accuracy(batches) == pytest.approx((1 / 10 + 0) / 2)
    assert module.training


def test_coalitions_may_be_valued_by_answer_tokens(tmp_path, student_folder, pages):
    module = merging(tmp_path, student_folder, pages, ShapleyMerge(method="final", value="tokens"))
    report = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert report["metric"] == "mean answer-token accuracy over tasks"
    measured = module.token_accuracy(pages.loader("dev", with_prompts=True, layout=module.layout))
    assert report["controls"]["final"]["utility"] == pytest.approx(measured)
    with pytest.raises(UserError, match=r"value is 'token'\. Did you mean 'tokens'"):
        ShapleyMerge(value="token")


def test_a_failing_merge_gives_the_weights_back(tmp_path, student_folder, pages):
    merge, scored = ShapleyMerge(), []

    def fails_at_the_third(mixture):
        for name, tensor in module.pair.student.state_dict().items():
            tensor.copy_(mixture[name])  # as the default does
        scored.append(1)
        if len(scored) == 3:
            raise RuntimeError("out of luck")
        return 0.0

    merge.utility = fails_at_the_third
    module = SFT(student_folder, optimizer=adamw)
    snapshots = Snapshots(count=2)
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(tmp_path, snapshots, merge, max_steps=4).fit(module, pages)
    last = load_file(tmp_path / "snapshots" / "step-000004" / "model.safetensors")
    assert all(torch.equal(tensor, last[name]) for name, tensor in module.pair.student.state_dict().items())
    assert not (tmp_path / "merged").exists()


def test_a_trial_run_says_that_there_is_nothing_to_merge_and_writes_nothing(tmp_path, student_folder, pages, capsys):
    merging(tmp_path, student_folder, pages, ShapleyMerge(), fast_dev_run=True)
    assert "ShapleyMerge: nothing to merge in a fast_dev_run." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("callbacks", "count"), [((), 0), ((Snapshots(count=1),), 1)])
def test_fewer_than_two_snapshots_are_not_merged(tmp_path, student_folder, pages, capsys, callbacks, count):
    trainer(tmp_path, *callbacks, ShapleyMerge(), max_steps=1).fit(SFT(student_folder), pages)
    assert f"ShapleyMerge: {count} snapshots, and it takes two" in capsys.readouterr().out
    assert not (tmp_path / "merged").exists()


def test_a_run_started_again_replaces_the_snapshots_of_the_one_before(tmp_path, student_folder, pages):
    snapshots = tmp_path / "snapshots"
    for peak in (0.01, 0.02):
        module = SFT(student_folder, optimizer=lambda p, peak=peak: torch.optim.AdamW(p, lr=peak))
        trainer(tmp_path, Snapshots(count=2), max_steps=4).fit(module, pages)
        (snapshots / "step-000003").mkdir(exist_ok=True)  # of a run with another count
        (snapshots / "step-000005.partial").mkdir(exist_ok=True)  # of a run that was killed
    last = load_file(snapshots / "step-000004" / "model.safetensors")
    assert all(torch.equal(tensor, last[name]) for name, tensor in module.pair.student.state_dict().items())
    kept = Snapshots(count=2, dirpath=snapshots)
    assert list(kept.folders()) == ["step-000002", "step-000003", "step-000004"]  # what is half written does not count
    trainer(tmp_path, Snapshots(count=1), max_steps=1).fit(SFT(student_folder), pages)
    assert sorted(path.name for path in snapshots.iterdir()) == ["base", "step-000001"]


def test_gradient_accumulation_takes_each_snapshot_once(tmp_path, student_folder, pages, monkeypatch):
    written = []
    monkeypatch.setattr(
        Snapshots, "_write", lambda self, module, folder: (written.append(folder.name), folder.mkdir(parents=True))
    )
    trainer(tmp_path, Snapshots(count=2), max_steps=2, accumulate_grad_batches=2).fit(SFT(student_folder), pages)
    assert written == ["base", "step-000001", "step-000002"]


def test_snapshots_are_evenly_spaced_and_end_with_the_last_step():
    assert Snapshots(count=5).due(100) == [20, 40, 60, 80, 100]
    assert Snapshots(count=3).due(10) == [3, 7, 10]
    assert Snapshots(count=5).due(2) == [1, 2]
    with pytest.raises(UserError, match=r"count is 0\. Keep at least one"):
        Snapshots(count=0)
