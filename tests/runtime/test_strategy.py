"""A training that is shared out over processes is the training of one process."""

import json
import pickle
import signal

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors.torch import load_file

from fcot.errors import UserError
from fcot.models.student_folder import load_student
from fcot.runtime.checkpoints.folder import read_checkpoint
from fcot.runtime.strategy import FSDP2Strategy
from fcot.runtime.trainer import Trainer
from fcot.training.realign import Realign

PAGES = (("What?", "a short one", 2), ("And a longer question?", "x", 1), ("Total", "a rather longer answer", 3))
TEXT = ("2 + 2?", "4", 0)
MODULE = {"drop_path": 0.0, "lr": 0.001, "max_new_tokens": 3}
RUN = {
    "max_steps": 4,
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 0.05,
    "checkpoint_every_n_steps": 2,
    "val_check_interval": 4,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 1,
    "show": 1,
    "module": MODULE,
}
ALONE = {"data": {"batch_size": 4, "eval_batch_size": 3, "dev_samples": 7}}  # of two processes, one has a batch more
HALVED = {"data": {**ALONE["data"], "batch_size": 2}, "processes": 2, "strategy": "fsdp2"}


def same(one, other):
    assert one.keys() == other.keys() and one
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


def tensors(state, path=""):
    """All tensors in nested state, by their path."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    return {name: each for key, item in items for name, each in tensors(item, f"{path}/{key}").items()}


@pytest.fixture(scope="module")
def runs(forks, tmp_path_factory):
    """A run in one process and in two, with all that a post-training writes; then each from the other's middle."""
    root = tmp_path_factory.mktemp("fsdp")
    assert forks.train(root / "one", merge={}, **RUN, **ALONE) == [0]
    assert forks.train(root / "two", merge={}, **RUN, **HALVED) == [0, 0]
    middle = "checkpoints/step-000002.ckpt"
    assert forks.train(root / "two-one", ckpt_path=str(root / "two" / middle), **RUN, **ALONE) == [0]
    assert forks.train(root / "one-two", ckpt_path=str(root / "one" / middle), **RUN, **HALVED) == [0, 0]
    return root


def test_losses_and_weights_are_those_of_one_process(runs, forks):
    losses = [[entry["loss"] for entry in forks.record(runs / name).values()] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and len(losses[0]) == 8
    same(forks.weights(runs / "one"), forks.weights(runs / "two"))
    same(forks.weights(runs / "two"), forks.weights(runs / "two", rank=1))


@pytest.mark.parametrize("name", ["two-one", "one-two"])
def test_a_checkpoint_goes_on_under_either_strategy(runs, forks, name):
    same(forks.weights(runs / "one"), forks.weights(runs / name))


@pytest.mark.slow
def test_a_run_that_was_told_to_end_within_a_step_goes_on_from_there(runs, forks, tmp_path):
    signals = {"number": signal.SIGTERM, "batch": 3, "rank": 1}
    assert forks.train(tmp_path, signals=signals, **RUN, **HALVED) == [75, 75]
    assert forks.train(tmp_path, ckpt_path="last", **RUN, **HALVED) == [0, 0]
    same(forks.weights(runs / "one"), forks.weights(tmp_path))


def test_it_writes_the_files_of_one_process(runs):
    def files(name):
        return sorted(str(path.relative_to(runs / name)) for path in (runs / name).rglob("*") if path.is_file())

    assert [each for each in files("two") if "-1." not in each] == files("one")
    for name in ("snapshots/base", "snapshots/step-000002", "snapshots/step-000004", "student", "merged"):
        same(*(load_file(runs / run / name / "model.safetensors") for run in ("one", "two")))
    checkpoints = [tensors(read_checkpoint(runs / run / "checkpoints/step-000004.ckpt")) for run in ("one", "two")]
    same(*checkpoints)
    merges = [json.loads((runs / run / "merged/merge.json").read_text()) for run in ("one", "two")]
    assert merges[1]["utilities"] == pytest.approx(merges[0]["utilities"])
    shown = [(runs / run / "predictions.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert [json.loads(line)["step"] for line in shown[1]] == [json.loads(line)["step"] for line in shown[0]]
    assert load_student(runs / "two/student").config.ratio == 2


def test_processes_may_have_unlike_numbers_of_packs_and_one_text_alone(forks, tmp_path, make_batch):
    packs = make_batch(*PAGES, token_budget=30)
    assert len(packs.sequences["student"].packs) > 1
    given = {"one": [[make_batch(*PAGES, TEXT)] * 2], "two": [[packs] * 2, [make_batch(TEXT)] * 2]}
    for name, batches in given.items():
        path = tmp_path / f"{name}.pickle"
        path.write_bytes(pickle.dumps(batches))
        options = {"batches": str(path), "max_steps": 2, "limit_val_batches": 0, "checkpoint_every_n_steps": 0}
        processes = {"processes": 2, "strategy": "fsdp2"} if name == "two" else {}
        codes = forks.train(tmp_path / name, module=MODULE, **options, **processes)
        assert codes == [0] * len(batches)
    same(forks.weights(tmp_path / "one"), forks.weights(tmp_path / "two"))


def test_realignment_is_not_shared_out(tmp_path, tiny_checkpoint, pages, trainer):
    try:
        with pytest.raises(UserError, match=r"Realign trains few parameters.*\nSet --trainer.strategy auto"):
            trainer(tmp_path, strategy="fsdp2", devices=1, max_steps=1).fit(Realign(tiny_checkpoint), pages)
    finally:
        torch.distributed.destroy_process_group()


def test_lightnings_own_strategy_is_taken_for_it(tmp_path):
    def strategy(given):
        return Trainer(accelerator="cpu", devices=2, strategy=given, logger=False, default_root_dir=tmp_path).strategy

    given = ModelParallelStrategy(data_parallel_size="auto", tensor_parallel_size=1)
    assert isinstance(strategy(given), FSDP2Strategy) and isinstance(strategy("fsdp2"), FSDP2Strategy)
    with pytest.raises(UserError, match=r"tensor_parallel_size of the strategy is 2.*\nSet it to 1"):
        strategy(ModelParallelStrategy(tensor_parallel_size=2))
