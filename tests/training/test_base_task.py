"""Short runs through the real Trainer, on a tiny model and a few pages."""

import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger

from callbacks import SaveStudent
from fcot.errors import UserError
from fcot.internvl.encoder import IGNORED
from fcot.internvl.pixels import normalize
from fcot.models.student import CompressedInternVL
from fcot.models.student_folder import load_student, save_student
from fcot.models.student_teacher import part_of
from fcot.runtime.checkpoints.folder import read_checkpoint, write_checkpoint
from fcot.training.realign import Realign
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards

PEAK = 0.01


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=PEAK, weight_decay=0.1)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.pair.student.state_dict().items()}


class RecordRates(torch.optim.AdamW):
    """AdamW that remembers each group's learning rate at every step."""

    def step(self, closure=None):
        out = super().step(closure)
        rates.append({group["name"]: group["lr"] for group in self.param_groups})
        return out


rates: list[dict[str, float]] = []


def test_realignment_learns_projector_and_compressor_and_saves_a_student(
    tmp_path, tiny_checkpoint, pages, capsys, trainer
):
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
    module.pair.student.model.language_model.norm.register_forward_hook(lambda *_: calls.append("language"))
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
    for branch, model in (("teacher", teacher), ("student", pair.student)):
        sequences = batch.sequences[branch]
        out = model(
            input_ids=sequences.input_ids, pixel_values=normalize(batch.tiles, pair.mean, pair.std), use_cache=False
        ).logits
        logits[branch] = out[:, :-1][sequences.labels[:, 1:] != IGNORED].double()
    labels = batch.sequences["student"].labels
    labels = labels[labels != IGNORED]
    log_t, log_s = ((logits[branch] / 2).log_softmax(-1) for branch in ("teacher", "student"))
    kl = (log_t.exp() * (log_t - log_s)).sum(-1).mean()
    ce = torch.nn.functional.cross_entropy(logits["student"], labels)
    found = module.losses(batch)
    assert float(found["loss"].detach()) == pytest.approx(float((4 * kl + 0.5 * ce).detach()), rel=1e-4)
    assert float(found["kl"]) == pytest.approx(float(kl.detach()), rel=1e-4)
    assert float(found["ce"]) == pytest.approx(float(ce.detach()), rel=1e-4)
    assert len(found["ce_rows"]) == len(labels)


def test_a_checkpoint_holds_what_learns_and_a_run_goes_on_from_it(tmp_path, tiny_checkpoint, pages, trainer):
    first = Realign(tiny_checkpoint, optimizer=adamw)
    run = trainer(tmp_path, max_steps=3)
    run.fit(first, pages)
    run.save_checkpoint(tmp_path / "at3.ckpt")
    saved = read_checkpoint(tmp_path / "at3.ckpt")
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


@pytest.mark.parametrize(("written", "read"), [("bf16-mixed", "32-true"), ("32-true", "bf16-mixed")])
def test_a_checkpoint_fits_its_base_at_another_precision(tmp_path, tiny_checkpoint, pages, trainer, written, read):
    first = Realign(tiny_checkpoint, optimizer=adamw)
    run = trainer(tmp_path, max_steps=2, precision=written)
    run.fit(first, pages)
    run.save_checkpoint(tmp_path / "at2.ckpt")
    untrained = Realign(tiny_checkpoint)
    untrained.configure_model()
    assert read_checkpoint(tmp_path / "at2.ckpt")["frozen_sha256"] == untrained.frozen_sha256
    if written == "bf16-mixed":
        untrained.pair.keep_frozen_in(torch.bfloat16)
    assert first.pair.frozen_digest() == untrained.pair.frozen_digest()  # training changed nothing that is frozen
    second = trainer(tmp_path / "second", max_steps=3, precision=read)
    second.fit(Realign(tiny_checkpoint, optimizer=adamw), pages, ckpt_path=tmp_path / "at2.ckpt", weights_only=True)
    assert second.global_step == 3


def test_a_checkpoint_of_another_base_or_compressor_is_refused(tmp_path, tiny_checkpoint, pages, trainer):
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


def test_gradients_of_all_parts_by_default_and_of_none_that_is_frozen(tmp_path, student_folder, pages, trainer):
    module = SFT(student_folder, optimizer=adamw, freeze=["vision"], drop_path=0.1)
    module.configure_model()
    before = weights(module)
    trainer(tmp_path, max_steps=2).fit(module, pages)
    changed = {name for name, tensor in weights(module).items() if not torch.equal(tensor, before[name])}
    assert {part_of(name) for name in changed} == {"projector", "llm"}
    assert {part_of(name) for name, _ in SFT(student_folder).build().trainable()} == {"vision", "projector", "llm"}


def test_learning_rates_are_scaled_by_part(tmp_path, student_folder, pages, trainer):
    rates.clear()
    module = SFT(
        student_folder, optimizer=lambda p: RecordRates(p, lr=PEAK), lr_scale={"vision": 0.1, "llm": 0.5}, warmup=2
    )
    trainer(tmp_path, max_steps=4).fit(module, pages)
    cosine = [0.5, 1.0, 1.0, 0.5 * (1 + math.cos(math.pi / 2))]
    for part, scale in (("projector", 1.0), ("vision", 0.1), ("llm", 0.5)):
        assert [rate[part] for rate in rates] == pytest.approx([PEAK * scale * share for share in cosine])


def test_groups_of_parameters_have_names_of_their_own_in_runs_from_old_checkpoints_too(
    tmp_path, student_folder, pages, trainer
):
    """Up to 0.1.0 both groups of a part had its name, which Lightning's LearningRateMonitor refuses."""
    module = SFT(student_folder, optimizer=adamw, lr_scale={"vision": 0.5})
    run = trainer(tmp_path, max_steps=2)
    run.fit(module, pages)
    run.save_checkpoint(tmp_path / "new.ckpt")
    parts = ("vision", "projector", "llm")
    names = {name for part in parts for name in (part, f"{part}_no_decay")}
    rates = {group["name"]: group["initial_lr"] for group in run.optimizers[0].param_groups}
    assert rates == {name: PEAK * (0.5 if name.startswith("vision") else 1) for name in names}
    old = read_checkpoint(tmp_path / "new.ckpt")
    for group in old["optimizer_states"][0]["param_groups"]:
        group["name"] = group["name"].removesuffix("_no_decay")
    write_checkpoint(old, tmp_path / "old.ckpt")
    logged = {"logger": CSVLogger(tmp_path), "log_every_n_steps": 1}
    again = trainer(tmp_path / "again", LearningRateMonitor(), max_steps=3, **logged)
    again.fit(SFT(student_folder, optimizer=adamw, lr_scale={"vision": 0.5}), pages, ckpt_path=tmp_path / "old.ckpt")
    assert {group["name"] for group in again.optimizers[0].param_groups} == names
    assert "lr-AdamW/vision_no_decay" in (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()


class SeesGradients(Callback):
    """Keeps the gradients of a step as callbacks see them, and how many tokens its batches answer."""

    def __init__(self):
        self.tokens, self.gradients = [], {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.tokens.append(len(outputs["ce_rows"]))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("batches", [1, 3])
def test_callbacks_see_the_gradients_that_the_optimizer_uses(
    tmp_path, student_folder, tiny_shards, trainer, batches, clip
):
    """They are those of one large batch, and are clipped after that."""
    seen, whole = SeesGradients(), SeesGradients()
    for callback, accumulate in ((whole, 1), (seen, batches)):
        module = SFT(student_folder, optimizer=lambda p: torch.optim.SGD(p, lr=1.0), warmup=0)
        options = {"max_steps": 1, "accumulate_grad_batches": accumulate, "gradient_clip_val": clip}
        data = Shards(tiny_shards, batch_size=12 // accumulate, num_workers=0)
        trainer(tmp_path, callback, **options).fit(module, data)
    assert len(set(seen.tokens)) == batches and sum(seen.tokens) == sum(whole.tokens)
    norm = torch.stack([gradient.norm() for gradient in seen.gradients.values()]).norm().item()
    assert norm > 0.02
    before = load_student(student_folder).state_dict()
    for name, gradient in seen.gradients.items():
        torch.testing.assert_close(gradient, whole.gradients[name], rtol=1e-3, atol=1e-5)
        moved = before[name.removeprefix("pair.student.")] - module.get_parameter(name).detach()
        torch.testing.assert_close(moved, gradient * (1.0 if clip is None else clip / norm), rtol=1e-3, atol=1e-6)


def test_vectors_do_not_decay(tmp_path, tiny_checkpoint, pages, trainer):
    module = Realign(tiny_checkpoint, optimizer=adamw)
    run = trainer(tmp_path, max_steps=1)
    run.fit(module, pages)
    for group in run.optimizers[0].param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


@pytest.mark.parametrize("option", [{"freeze": ["audio"]}, {"lr_scale": {"audio": 0.1}}])
def test_unknown_parts_are_refused(student_folder, option):
    with pytest.raises(UserError, match=r"no part \['audio'\]\. Parts are vision, projector, llm"):
        SFT(student_folder, **option)


def test_a_run_without_an_end_is_refused(tmp_path, tiny_checkpoint, pages, trainer):
    with pytest.raises(UserError, match=r"max_steps is -1.*\nSet --trainer\.max_steps"):
        trainer(tmp_path, max_epochs=1).fit(Realign(tiny_checkpoint), pages)


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


@pytest.mark.parametrize("kind", [Realign, SFT])
def test_a_run_on_packs_is_a_run_on_padded_batches(tmp_path, tiny_checkpoint, tiny_shards, trainer, kind):
    found = []
    for name, options in (("padded", {}), ("packed", {"token_budget": 150, "tile_budget": 40})):
        # not AdamW: it turns a rounding error of a tiny gradient into a whole step
        module = kind(tiny_checkpoint, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
        run = trainer(tmp_path / name, max_steps=3, limit_val_batches=1, val_check_interval=3)
        run.fit(module, Shards(tiny_shards, batch_size=4, eval_batch_size=4, num_workers=0, **options))
        found.append((weights(module), float(run.callback_metrics["val/loss"])))
    (padded, loss), (packed, same) = found
    assert loss == pytest.approx(same, rel=1e-4)
    for tensor, expected in zip(packed.values(), padded.values(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-5)


def test_frozen_weights_are_as_precise_as_the_run_and_trained_ones_in_full(tmp_path, tiny_checkpoint, pages, trainer):
    module = Realign(tiny_checkpoint, optimizer=adamw)
    run = trainer(tmp_path, SaveStudent(), max_steps=2, precision="bf16-mixed")
    run.fit(module, pages)
    assert {parameter.dtype for _, parameter in module.pair.frozen()} == {torch.bfloat16}
    assert {parameter.dtype for _, parameter in module.pair.trainable()} == {torch.float32}
    loader = pages.loader("dev", layout=module.layout, with_prompts=True)
    assert 0 <= module.token_accuracy(loader) <= 1  # callbacks read pages outside of autocast too
    assert len(module.evaluate(loader).records) == 8
    saved = load_student(tmp_path / "student").state_dict()
    for name, parameter in module.pair.student.named_parameters():
        assert torch.equal(saved[name], parameter), name


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_gradients_of_a_fused_optimizer_are_clipped(tmp_path, student_folder, pages, trainer, precision):
    module = SFT(student_folder, optimizer=lambda p: torch.optim.SGD(p, lr=1.0, fused=True), warmup=0)
    run = trainer(tmp_path, max_steps=1, gradient_clip_val=0.01, precision=precision)
    before = load_student(student_folder).state_dict()
    run.fit(module, pages)
    moved = [(tensor - before[name]).norm() for name, tensor in module.pair.student.state_dict().items()]
    assert torch.stack(moved).norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("reduction", ["token", "sample"])
def test_loss_on_held_out_pages_does_not_depend_on_batches(tmp_path, student_folder, tiny_shards, trainer, reduction):
    module, found = SFT(student_folder, reduction=reduction), []
    for size in (3, 8):
        data = Shards(tiny_shards, eval_batch_size=size, num_workers=0)
        run = trainer(tmp_path / str(size), limit_val_batches=1.0)
        run.validate(module, data)
        found.append(float(run.callback_metrics["val/loss"]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
