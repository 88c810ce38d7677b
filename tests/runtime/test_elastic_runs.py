"""An elastic student's run is the same in one process, in two, with workers that prepare pages, and after a kill."""

import signal

import pytest
import torch

from fcot.models.student_folder import save_student
from fcot.training.realign import Realign

RUN = {"max_steps": 4, "limit_val_batches": 0, "checkpoint_every_n_steps": 2, "gradient_clip_val": 1.0}
REALIGN = {"kind": "Realign", "ratios": [2, 4], "elastic": True, "mixed": 0.5, "lr": 0.003}
SFT = {"kind": "SFT", "drop_path": 0.0, "uncompressed": 0.34, "lr": 0.001}


@pytest.fixture(scope="module", params=["re-alignment", "post-training"])
def straight(request, forks, tiny_checkpoint, tmp_path_factory):
    """What to train, and the folder of a run of it in one process and without workers."""
    folder = tmp_path_factory.mktemp("elastic")
    start = tiny_checkpoint
    if request.param == "post-training":
        start = folder / "student"
        save_student(Realign(tiny_checkpoint, ratios=[2, 4], elastic=True).build().student, start, tiny_checkpoint)
    module = REALIGN if request.param == "re-alignment" else SFT
    given = {**RUN, "model": str(start), "module": module}
    assert forks.train(folder / "run", **given, data={"batch_size": 4}) == [0]
    return given, folder / "run"


def same_weights(forks, folder, ranks, straight):
    alone = forks.weights(straight)
    for rank in range(ranks):
        for name, weight in forks.weights(folder, rank).items():
            torch.testing.assert_close(weight, alone[name], rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_does(forks, straight, tmp_path, strategy):
    given, run = straight
    if strategy == "fsdp2" and given["module"]["kind"] == "Realign":
        pytest.skip("re-alignment is not sharded")
    assert forks.train(tmp_path, processes=2, strategy=strategy, **given, data={"batch_size": 2}) == [0, 0]
    alone, halves = forks.record(run), [forks.record(tmp_path, rank) for rank in (0, 1)]
    for batch, entry in alone.items():
        assert sorted(halves[0][batch]["keys"] + halves[1][batch]["keys"]) == sorted(entry["keys"])
        assert halves[0][batch]["loss"] == pytest.approx(entry["loss"], abs=1e-5)
    same_weights(forks, tmp_path, 2, run)


@pytest.mark.slow
def test_workers_change_nothing(forks, straight, tmp_path):
    given, run = straight
    assert forks.train(tmp_path, **given, data={"batch_size": 4, "num_workers": 2}) == [0]
    assert forks.same(tmp_path, run)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["saving", 3])  # after three batches, a re-alignment learns from mixed pages already
def test_a_killed_run_has_the_same_future(forks, straight, tmp_path, when):
    given, run = straight
    kill = {"when": when, "delay": 0.01}
    given = {**given, "data": {"batch_size": 4}, "ckpt_path": "last"}
    assert forks.train(tmp_path, kill=kill, **given) == [-signal.SIGKILL]
    assert forks.train(tmp_path, **given) == [0]
    assert forks.same(tmp_path, run)
