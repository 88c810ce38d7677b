"""What a resumed run reads and counts is what it would have without the interruption."""

import tarfile

import pytest
from lightning.pytorch import Callback

from fcot.training.sft import SFT
from shards.feed.datamodule import Shards
from shards.format.writer import write_set
from shards.render.recipes import Draw


class Keys(Callback):
    """Remembers what each step was trained on."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append((trainer.current_epoch, batch.keys))


def write(root, samples):
    write_set(root / "train", Draw("letters", "train", 0, samples), samples)


def spoil(root, checkpoint, *places):
    """Change a byte of the samples at some places of the first epoch; the index, which the order hangs on, stays."""
    data = Shards(root)
    epoch = data.order("train", SFT(checkpoint).layout, training=True).epoch(0)
    shard = root / "train" / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        for place in places:
            (number,) = epoch.samples(place, place + 1)
            _, key = data.samples("train").name(number)
            content[tar.getmember(f"{key}.png").offset_data + 60] ^= 1
    shard.write_bytes(content)


@pytest.fixture
def steps(tmp_path, tiny_checkpoint, trainer):
    """Return a function that trains in a folder and returns the epoch and the keys of each step."""

    def train(run, until, resume=None, max_skipped=1.0, **options):
        seen = Keys()
        data = Shards(tmp_path, batch_size=2, num_workers=0, max_skipped=max_skipped)
        run = trainer(tmp_path / run, seen, max_steps=until, checkpoint_every_n_steps=100, **options)
        run.fit(SFT(tiny_checkpoint), data, ckpt_path=resume)
        return seen.steps

    return train


@pytest.mark.parametrize(("limit", "stop"), [(2, 2), (2, 3), (5, 6)])
def test_a_pass_that_a_limit_ends_is_over_for_the_resumed_run_too(tmp_path, steps, limit, stop):
    """A limit within the data, or beyond its four batches."""
    write(tmp_path, 7)
    whole = steps("whole", 9, limit_train_batches=limit)
    assert [epoch for epoch, _ in whole] == [step // min(limit, 4) for step in range(9)]
    begun = steps("stopped", stop, limit_train_batches=limit)
    assert begun + steps("stopped", 9, "last", limit_train_batches=limit) == whole


def test_a_pass_whose_last_samples_are_unusable_is_over_for_the_resumed_run_too(tmp_path, steps, tiny_checkpoint):
    write(tmp_path, 6)
    spoil(tmp_path, tiny_checkpoint, 4, 5)
    whole = steps("whole", 4)
    assert [epoch for epoch, _ in whole[:3]] == [0, 0, 1]
    assert steps("stopped", 2) + steps("stopped", 4, "last") == whole


def test_a_run_resumed_late_in_an_epoch_is_judged_by_all_of_it(tmp_path, steps, tiny_checkpoint, capsys):
    write(tmp_path, 20)
    spoil(tmp_path, tiny_checkpoint, 3, 17)
    begun = steps("run", 8, max_skipped=0.1, max_epochs=1)
    capsys.readouterr()
    rest = steps("run", 100, "last", max_skipped=0.1, max_epochs=1)
    assert len({key for _, keys in begun + rest for key in keys}) == 18
    assert "train: 2 of 20 samples skipped: 2 " in capsys.readouterr().out
