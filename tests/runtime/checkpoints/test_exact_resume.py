"""A run that is killed goes on as if nothing had happened: same samples, losses, learning rates and weights."""

import random
import signal
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from transformers import AutoConfig, InternVLForConditionalGeneration

from fcot.errors import UserError
from fcot.runtime.checkpoints.folder import newest_valid, read_checkpoint
from fcot.tiny import write_architecture
from fcot.training.sft import SFT

# 8 batches a pass and 3 to a step: each pass ends with a short step; a validation after each 5th batch
RUN = {
    "max_steps": 8,
    "accumulate_grad_batches": 3,
    "checkpoint_every_n_steps": 2,
    "limit_val_batches": 1,
    "val_check_interval": 5,
    "gradient_clip_val": 1.0,
}
MOMENTS = ["saving", "validating", 1, 2, 3, 4, 5, 7]


@pytest.fixture(scope="module")
def straight(forks, tmp_path_factory):
    """The run without any interruption."""
    folder = tmp_path_factory.mktemp("straight")
    assert forks.train(folder, **RUN) == [0]
    return folder


def kill_and_finish(forks, folder, moments, draw, **more):
    """Kill a run at each moment, resume it each time, then let it finish; return how many kills hit it running."""
    hit = 0
    for when in moments:
        kill = {"when": when, "delay": draw.uniform(0, 0.02)}
        hit += forks.train(folder, kill=kill, ckpt_path="last", **RUN, **more) == [-signal.SIGKILL]
    assert forks.train(folder, ckpt_path="last", **RUN, **more) == [0]
    return hit


def test_a_run_that_is_killed_again_and_again_has_the_same_future(forks, straight, tmp_path):
    killed = tmp_path / "killed"
    assert kill_and_finish(forks, killed, ["saving", 5, "validating", 2], random.Random(0)) >= 3
    record = forks.record(straight)
    assert forks.same(killed, straight)
    assert [entry["step"] for entry in record.values()][:9] == [0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert len({entry["loss"] for entry in record.values()}) == len(record) == 22


@pytest.mark.slow
def test_twenty_kills_at_random_moments(forks, straight, tmp_path):
    """Several runs, each killed until it ends all the same; before the first batch and after the last one, too."""
    draw = random.Random(0)
    hit, runs = 0, 0
    while hit < 20:
        killed = tmp_path / f"killed-{runs}"
        while hit < 20 and not (killed / "final-0.pt").exists():
            kill = {"when": draw.choice([0, *MOMENTS]), "delay": draw.uniform(0, 0.03)}
            hit += forks.train(killed, kill=kill, ckpt_path="last", **RUN) == [-signal.SIGKILL]
        assert forks.train(killed, ckpt_path="last", **RUN) == [0]
        assert forks.same(killed, straight)
        runs += 1
    print(f"{hit} kills in {runs} runs")


def test_a_module_that_asks_for_the_number_of_steps_resumes_exactly_too(forks, straight, tmp_path):
    folder = tmp_path / "asks"
    asks = {"module": {"kind": "SFTThatAsks"}, "max_epochs": 100}  # without an end in passes Lightning need not look
    assert kill_and_finish(forks, folder, [7], random.Random(1), **asks) == 1
    assert forks.same(folder, straight)


def test_a_run_killed_after_its_last_step_still_gets_the_work_of_its_end(forks, straight, tmp_path):
    folder = tmp_path / "ended"
    assert forks.train(folder, **RUN) == [0]
    (folder / "final-0.pt").unlink()
    assert forks.train(folder, ckpt_path="last", **RUN) == [0]
    assert forks.same(folder, straight)


@pytest.fixture(scope="module")
def tower_of_two(tmp_path_factory):
    """A model whose second layer drop path acts on: of a single layer it drops nothing, and nothing would be random."""
    place = tmp_path_factory.mktemp("two") / "tiny"
    folder = write_architecture(place, tile_size=56, width=32, vision_layers=2, text_layers=1, heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def test_a_checkpoint_of_any_moment_resumes_exactly(tmp_path, tower_of_two, pages, trainer):
    """Within gradient accumulation, after a validation, at the end of a pass: wherever somebody else saves."""
    seen = {}

    class Saves(ModelCheckpoint):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.setdefault(trainer.callbacks[0].total, set()).add((outputs["loss"].item(), *batch.keys))
            if self.dirpath == str(tmp_path):
                trainer.save_checkpoint(tmp_path / f"after-{trainer.callbacks[0].total}.ckpt")

        def on_validation_end(self, trainer, module):
            if self.dirpath == str(tmp_path):
                trainer.save_checkpoint(tmp_path / f"validated-{trainer.callbacks[0].total}.ckpt")

    options = {"max_steps": 5, "accumulate_grad_batches": 3, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    trainer(tmp_path / "run", Saves(tmp_path), **options).fit(SFT(tower_of_two, drop_path=0.2), pages)
    assert "gradients" in read_checkpoint(tmp_path / "after-4.ckpt")
    assert "gradients" not in read_checkpoint(tmp_path / "after-8.ckpt")
    for name in ("after-4", "after-6", "after-8", "validated-8"):
        run = trainer(tmp_path / "again", Saves(tmp_path / "none"), **options)
        run.fit(SFT(tower_of_two, drop_path=0.2), pages, ckpt_path=tmp_path / f"{name}.ckpt")
        assert run.global_step == 5
    assert len(seen) == 14
    assert all(len(found) == 1 for found in seen.values())


SCHEDULED = {"max_steps": 6, "limit_train_batches": 3, "num_sanity_val_steps": 0, "checkpoint_every_n_steps": 0}


class SavesEachBatch(Callback):
    """Notes what each batch was, and saves after it, to a folder if there is one."""

    def __init__(self, folder, seen):
        self.folder, self.seen = folder, seen

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        done = trainer.callbacks[0].total
        found = (outputs["loss"].item(), trainer.global_step, trainer.accumulate_grad_batches, *batch.keys)
        self.seen.setdefault(done, set()).add(found)
        if self.folder is not None:
            trainer.save_checkpoint(self.folder / f"after-{done}.ckpt")


def test_a_schedule_of_batches_to_a_step_resumes_exactly(tmp_path, tiny_checkpoint, pages, trainer):
    """One batch to a step, then two: after any batch, in the middle of a step or between two passes."""
    seen = {}
    module = partial(SFT, tiny_checkpoint, drop_path=0.2)

    def run(*, folder=None, path=None, schedule=((0, 1), (1, 2))):
        parts = SavesEachBatch(folder, seen), GradientAccumulationScheduler(dict(schedule))
        trainer(tmp_path / "run", *parts, **SCHEDULED).fit(module(), pages, ckpt_path=path)

    run(folder=tmp_path)
    steps = {done: next(iter(found))[1] for done, found in seen.items()}
    assert list(steps.values()) == [1, 2, 3, 3, 4, 5, 5, 6]
    for done in (2, 3, 4, 5, 6, 7):
        run(path=tmp_path / f"after-{done}.ckpt")
    assert all(len(found) == 1 for found in seen.values())
    with pytest.raises(UserError, match=r"within a step of 2 batches, and a step has 3 now"):
        run(path=tmp_path / "after-4.ckpt", schedule=((0, 1), (1, 3)))


def test_no_run_goes_on_from_within_a_batch(tmp_path, tiny_checkpoint, pages, trainer, capsys):
    class Fails(Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            if trainer.global_step == 3:
                raise RuntimeError("in the third step")

    saves = ModelCheckpoint(save_on_exception=True, every_n_train_steps=100)
    options = {"max_steps": 4, "checkpoint_every_n_steps": 2}
    with pytest.raises(RuntimeError, match="in the third step"):
        trainer(tmp_path, saves, Fails(), **options).fit(SFT(tiny_checkpoint), pages)
    assert newest_valid(tmp_path / "checkpoints").name == "epoch=0-step=3.ckpt"
    run = trainer(tmp_path, **options)
    run.fit(SFT(tiny_checkpoint), pages, ckpt_path="last")
    assert str(run.ckpt_path).endswith("step-000002.ckpt")
    assert "step=3.ckpt does not say where in the data" in capsys.readouterr().out


def test_a_checkpoint_without_a_position_is_refused(tmp_path, tiny_checkpoint, pages, trainer):
    run = trainer(tmp_path, max_steps=1)
    run.fit(SFT(tiny_checkpoint), pages)
    del run.callbacks[0]
    run.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(UserError, match="does not say where in the data"):
        trainer(tmp_path, max_steps=2).fit(SFT(tiny_checkpoint), pages, ckpt_path=tmp_path / "one.ckpt")
