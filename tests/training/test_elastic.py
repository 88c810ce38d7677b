"""One elastic student learns all its ratios in a step, from one look at the pages and one pass of the teacher."""

import json

import pytest
import torch
from lightning.pytorch import Callback

from callbacks import SaveStudent
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.branches import MIXED
from fcot.models.student_folder import load_student
from fcot.models.student_teacher import StudentTeacher
from fcot.route import Router
from fcot.training.realign import Realign
from fcot.training.saving import save_with_router
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards
from shards.feed.order import Order
from shards.feed.reader import BatchStream
from shards.format.shard_set import ShardSet

SAMPLES = (("What?", "a short one", 2), ("And a longer question?", "x", 1), ("2 + 2?", "4", 0))
COMPRESSOR = "student.model.multi_modal_projector.compressor."


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01)


def test_a_step_is_the_weighted_sum_of_ratios_from_one_look_at_the_pages(tiny_checkpoint, make_batch):
    both = Realign(tiny_checkpoint, ratios=[2, 4], elastic=True)
    both.configure_model()
    calls = []
    both.pair.student.model.vision_tower.register_forward_hook(lambda *_: calls.append("vision"))
    both.pair.student.model.language_model.norm.register_forward_hook(lambda *_: calls.append("language"))
    found = both.losses(make_batch(*SAMPLES, more=(4,)))
    found["loss"].backward()
    assert calls == ["vision", "language", "language", "language"]
    ours, shared, total = dict(both.pair.trainable()), {}, 0.0
    for ratio in (2, 4):
        alone = Realign(tiny_checkpoint, ratio=ratio)
        alone.configure_model()
        expected = alone.losses(make_batch(*SAMPLES, ratio=ratio))
        weighted = expected["loss"] * 2 / ratio
        weighted.backward()
        total += weighted.item()
        assert found[f"kl_r{ratio}"].item() == pytest.approx(expected["kl"].item(), rel=1e-5)
        for name, parameter in alone.pair.trainable():
            if name.startswith(COMPRESSOR):
                own = ours[name.replace(COMPRESSOR, f"{COMPRESSOR}by_ratio.{ratio}.")]
                torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-4, atol=1e-7)
            else:
                shared[name] = shared.get(name, 0) + parameter.grad
    for name, gradient in shared.items():
        torch.testing.assert_close(ours[name].grad, gradient, rtol=1e-4, atol=1e-7)
    assert found["loss"].item() == pytest.approx(total, rel=1e-5)
    assert all(p.grad is None for _, p in both.pair.frozen())


def test_the_last_steps_learn_from_mixed_pages_and_one_folder_is_saved(tmp_path, tiny_checkpoint, pages, trainer):
    module = Realign(
        tiny_checkpoint, ratios=[2, 4], elastic=True, mixed=0.5, optimizer=adamw, warmup=0, max_new_tokens=4
    )
    steps, losses = [], module.losses
    module.losses = lambda batch: steps.append(found := losses(batch)) or found
    run = trainer(tmp_path, SaveStudent(), max_steps=2, gradient_clip_val=1.0)
    run.fit(module, pages)
    assert ["kl_mixed" in step for step in steps] == [False, True]
    weights = {"r2": 1.0, "r4": 0.5, "mixed": 1.0}
    total = sum(weight * steps[1][f"{part}_{name}"] for part in ("kl", "ce") for name, weight in weights.items())
    assert steps[1]["loss"].item() == pytest.approx(total.item(), rel=1e-6)
    assert sorted(each.name for each in tmp_path.glob("student*")) == ["student"]
    saved = load_student(tmp_path / "student")
    assert saved.config.ratios == [2, 4]
    whole = load_student(tiny_checkpoint).model.multi_modal_projector.state_dict()
    for name, tensor in saved.model.multi_modal_projector.whole.state_dict().items():
        assert torch.equal(tensor, whole[name]), name
    run.test(module, pages, verbose=False)
    rows = [json.loads((tmp_path / f"test{suffix}.json").read_text()) for suffix in ("", "-r4")]
    assert [row["ratio"] for row in rows] == [2, 4]
    assert rows[0]["visual_tokens"] == 2 * rows[1]["visual_tokens"]


@pytest.mark.parametrize("step", [1, 3])
def test_a_resumed_run_draws_the_same_and_mixes_from_the_same_step_on(tmp_path, tiny_checkpoint, pages, trainer, step):
    class Notes(Callback):
        def __init__(self, save=None):
            self.seen, self.save = [], save

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.seen.append((outputs["loss"].item(), *batch.keys))
            if trainer.global_step == self.save:
                trainer.save_checkpoint(tmp_path / "saved.ckpt")

    def train(name, notes, **options):
        module = Realign(tiny_checkpoint, ratios=[2, 4], elastic=True, mixed=0.5, optimizer=adamw)
        trainer(tmp_path / name, notes, max_steps=4).fit(module, pages, **options)
        return notes.seen

    straight = train("straight", Notes(step))
    assert train("resumed", Notes(), ckpt_path=tmp_path / "saved.ckpt") == straight[step:]


def drawn(module, root, branch, epoch=0, **options):
    """Visual tokens of each tile of the training pages of an epoch, by sample."""
    samples = ShardSet(root / "train")
    counts = {}
    for rank in range(options.get("world_size", 1)):
        order = Order(torch.ones(len(samples)).numpy(), torch.arange(len(samples)).numpy(), (3,))
        stream = BatchStream(samples, module.layout, order, **{"training": True, "rank": rank, **options})
        stream.seek(epoch)
        for delivery in stream:
            batch = delivery.batch
            shown = batch.by_sample(batch.tile_tokens[branch])
            counts |= {key: each.tolist() for key, each in zip(batch.keys, shown, strict=True)}
    return counts


@pytest.fixture(scope="module")
def elastic_folder(tiny_checkpoint, tmp_path_factory):
    from fcot.models.student_folder import save_student

    folder = tmp_path_factory.mktemp("elastic")
    module = Realign(tiny_checkpoint, ratios=[2, 4], elastic=True)
    save_student(module.build().student, folder, tiny_checkpoint)
    return folder


def test_ratios_are_drawn_from_the_sample_alone(tiny_checkpoint, elastic_folder, tiny_shards):
    realign, sft = Realign(tiny_checkpoint, ratios=[2, 4], elastic=True), SFT(elastic_folder)
    for module, branch in ((realign, MIXED), (sft, "student")):
        one = drawn(module, tiny_shards, branch, batch_size=4)
        assert one == drawn(module, tiny_shards, branch, batch_size=3, world_size=2)
        assert one == drawn(module, tiny_shards, branch, batch_size=8, token_budget=100)
        assert one != drawn(module, tiny_shards, branch, batch_size=4, epoch=1)
        assert {count for page in one.values() for count in page} == {4, 2, 1}
    pages = drawn(sft, tiny_shards, "student", batch_size=4).values()
    assert all(len(set(page)) <= 1 for page in pages)  # a page has one ratio
    held_out = drawn(sft, tiny_shards, "student", batch_size=4, training=False)
    assert {count for page in held_out.values() for count in page} == {2}


def test_on_half_of_the_pages_a_router_decides(tiny_checkpoint, elastic_folder, tiny_shards, tmp_path):
    pair = StudentTeacher(elastic_folder)
    own = ModelFolder(tiny_checkpoint).preprocessing
    settings = {"kind": "learned", "price": 0.1, "hidden": 8, "rule": [[1.0, 3.0], [0.001, 0.003]], "rule_price": 0.02}
    settings |= {"image_mean": own["image_mean"], "image_std": own["image_std"]}
    save_with_router(pair.student, elastic_folder, tmp_path / "routed", settings, Router(128, 2, 8))
    plain, half, all_of_them = (SFT(tmp_path / "routed", routed=share) for share in (0, 0.5, 1))
    found = [drawn(module, tiny_shards, "student", batch_size=4) for module in (plain, half, all_of_them)]
    assert found[1] == drawn(half, tiny_shards, "student", batch_size=3, world_size=2)
    mixed = [sum(len(set(page)) > 1 for page in each.values()) for each in found]
    assert mixed[0] == 0 < mixed[1] < mixed[2]
    assert found[0] == drawn(SFT(elastic_folder), tiny_shards, "student", batch_size=4)  # as without a router
    assert all(page == found[0][key] or page == found[2][key] for key, page in found[1].items())
    assert all(page[-1] == 1 for page in found[2].values())  # the thumbnail costs next to nothing
    held_out = drawn(half, tiny_shards, "student", batch_size=4, training=False)
    assert {count for page in held_out.values() for count in page} == {2}


def test_post_training_changes_every_ratio(tmp_path, elastic_folder, tiny_shards, trainer):
    data = Shards(tiny_shards, batch_size=1, num_workers=0)
    module = SFT(elastic_folder, optimizer=adamw, warmup=0)
    run = trainer(tmp_path, max_steps=1)
    run.fit(module, data)
    projector = module.pair.student.model.multi_modal_projector
    assert all(parameter.grad is not None or not parameter.requires_grad for parameter in projector.parameters())
    assert all(parameter.requires_grad for parameter in projector.whole.parameters())


def test_a_test_reads_pages_with_the_visual_tokens_asked_for(tmp_path, elastic_folder, student_folder, pages, trainer):
    found = {}
    for asked in (None, 4, 1):
        module = SFT(elastic_folder, visual_tokens=asked, max_new_tokens=2)
        trainer(tmp_path / str(asked), limit_test_batches=1).test(module, pages, verbose=False)
        row = json.loads((tmp_path / str(asked) / "test.json").read_text())
        found[asked] = row["ratio"], row["visual_tokens"]
    most = found[4][1]
    assert found == {None: (2, most / 2), 4: (1, most), 1: (4, most / 4)}
    with pytest.raises(UserError, match="visual_tokens is 3"):
        _ = SFT(elastic_folder, visual_tokens=3).layout
    with pytest.raises(UserError, match="gives every tile 2"):
        _ = SFT(student_folder, visual_tokens=4).layout


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_shares_are_between_0_and_1(tiny_checkpoint, value):
    with pytest.raises(UserError, match="mixed is"):
        Realign(tiny_checkpoint, ratios=[2, 4], elastic=True, mixed=value)
    with pytest.raises(UserError, match="uncompressed is"):
        SFT(tiny_checkpoint, uncompressed=value)
    with pytest.raises(UserError, match="routed is"):
        SFT(tiny_checkpoint, routed=value)
