import io
import logging
import re
import sys

import pytest
from lightning.pytorch import Callback

from callbacks import Progress
from callbacks.progress import Rate, as_clock
from fcot.runtime.trainer import Trainer
from fcot.training.realign import Realign
from fcot.training.sft import SFT
from shards.feed.datamodule import Shards


class Terminal(io.StringIO):
    """Output that says it is a terminal."""

    def isatty(self):
        return True


class Warns(Callback):
    """Warns in the middle of a run: where `warnings` does, which pytest keeps to itself, and to a log."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        print(f"odd batch {batch_idx}", file=sys.stderr)
        logging.getLogger("lightning.pytorch").warning("logged batch %d", batch_idx)


def trainer(folder, *callbacks, **options):
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 1, **options},
    )


def pages(root, **options):
    return Shards(root, batch_size=4, eval_batch_size=4, num_workers=0, **options)


def test_lines_without_a_terminal_say_where_the_run_is(tmp_path, tiny_checkpoint, tiny_shards, capsys):
    run = trainer(tmp_path, Progress(every_n_steps=2), max_steps=5, val_check_interval=4, check_val_every_n_epoch=None)
    run.fit(Realign(tiny_checkpoint), pages(tiny_shards))
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    numbers = r"loss \d+\.\d{3}  kl \d+\.\d{3}  ce \d+\.\d{3}  agreement \d\.\d{3}  [\d.]+ samples/s  eta \d+:\d\d"
    assert [line.split()[1] for line in lines] == ["2/5", "4/5", "4/5", "5/5"]
    for place in (0, 1, 3):
        assert re.fullmatch(rf"step \d/5  {numbers}", lines[place])
    assert re.fullmatch(r"step 4/5  val loss \d+\.\d{3}", lines[2])
    assert lines[3].endswith("eta 0:00")
    assert f"  loss {float(run.callback_metrics['train/loss']):.3f}  " in lines[3]
    assert "\x1b" not in out
    assert "\r" not in out


def test_batches_that_accumulate_gradients_make_one_line(tmp_path, tiny_checkpoint, tiny_shards, capsys):
    run = trainer(tmp_path, Progress(every_n_steps=1), max_steps=2, accumulate_grad_batches=2, limit_val_batches=0)
    run.fit(SFT(tiny_checkpoint), pages(tiny_shards))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]


def test_lines_of_a_test_count_batches(tmp_path, tiny_checkpoint, tiny_shards, capsys):
    trainer(tmp_path, Progress(every_n_steps=1)).test(SFT(tiny_checkpoint, max_new_tokens=1), pages(tiny_shards))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test batch")]
    assert [re.sub(r"[\d.]+ samples/s", "N samples/s", line) for line in lines] == [
        "test batch 1  N samples/s",
        "test batch 2  N samples/s",
    ]


def test_on_a_terminal_a_bar_counts_steps_and_warnings_do_not_break_it(
    tmp_path, tiny_checkpoint, tiny_shards, monkeypatch
):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "handlers", [logging.StreamHandler()])
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    run = trainer(tmp_path, Progress(), Warns(), max_steps=10, limit_val_batches=0)
    run.fit(SFT(tiny_checkpoint), pages(tiny_shards))  # 8 batches an epoch
    shown = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()))
    bars = [line for line in shown if line.startswith("Training")]
    assert "10/10" in bars[-1]
    assert re.search(r"loss: \d+\.\d{3} samples/s: [\d.]+", bars[-1])
    assert not [line for line in shown if line.startswith("step ")]
    for warning in ("odd batch 1", "logged batch 1"):
        assert len([line for line in shown if line.rstrip() == warning]) == 2  # once in each epoch
    assert not [line for line in shown if " batch " in line and "Training" in line]


def test_speed_is_that_of_the_last_batches_without_validations(monkeypatch):
    now = iter([0.0, 10.0, 11.0, 12.0, 12.0, 112.0, 113.0])
    monkeypatch.setattr("callbacks.progress.monotonic", lambda: next(now))
    rate = Rate(window=2)
    rate.start()
    assert rate.samples is None
    for _ in range(3):
        rate.add(8)  # the first takes 10 s, the others 1 s
    assert rate.samples == pytest.approx(8.0)
    rate.pause()
    rate.resume()  # after 100 s
    rate.add(8)
    assert (rate.samples, rate.batches) == (pytest.approx(8.0), pytest.approx(1.0))


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (70, "1:10"), (59.6, "1:00"), (7389, "2:03:09")])
def test_times_read_as_on_a_clock(seconds, text):
    assert as_clock(seconds) == text
