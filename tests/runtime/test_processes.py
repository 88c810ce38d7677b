"""Two processes over gloo: the same loss and gradients as one, no hang where one has nothing, one that works alone."""

import json
import pickle
import time
from dataclasses import replace

import pytest
import torch

from fcot.internvl.encoder import IGNORED

IMAGES = [("What is that?", "an answer of some length", 2), ("A?", "b", 1)]
TEXTS = [("Nothing to see?", "no", 0)]
MORE_TEXTS = [("More text?", "yes, more of it", 0), ("And more?", "a little", 0)]


def without_labels(batch):
    """The batch with no token to learn."""
    branches = {
        branch: replace(
            s, labels=torch.full_like(s.labels, IGNORED), answers=s.answers[:0], counts=(0,) * len(s.counts)
        )
        for branch, s in batch.sequences.items()
    }
    return replace(batch, sequences=branches)


def both_and_one(make_batch):
    """Batches of two processes for a step of three batches, and those of one process that learns the same."""
    text_only = [make_batch(*IMAGES), make_batch(*TEXTS)]
    no_labels = [make_batch(*IMAGES), without_labels(make_batch(*IMAGES[:1]))]
    no_images = [make_batch(*TEXTS), make_batch(*MORE_TEXTS)]
    both = [list(batches) for batches in zip(text_only, no_labels, no_images, strict=True)]
    return both, [make_batch(*IMAGES, *TEXTS), make_batch(*IMAGES), make_batch(*TEXTS, *MORE_TEXTS)]


@pytest.mark.parametrize("kind", ["SFT", "Realign"])
def test_two_processes_learn_what_one_does(forks, make_batch, kind, tmp_path, tiny_checkpoint, student_folder):
    """With text only on one, nothing to learn on one, images on none."""
    both, one = both_and_one(make_batch)
    options = {"max_steps": 1, "accumulate_grad_batches": 3, "limit_val_batches": 0, "checkpoint_every_n_steps": 0}
    options["model"] = str(tiny_checkpoint if kind == "Realign" else student_folder)
    options["module"] = {"kind": kind, "optimizer": "SGD", "lr": 1.0}
    options["module"] |= {"drop_path": 0.0} if kind == "SFT" else {}
    for name, batches in (("one", [one]), ("two", both)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "batches").write_bytes(pickle.dumps(batches))
        options["batches"] = str(tmp_path / name / "batches")
        assert forks.train(tmp_path / name, processes=len(batches), **options) == [0] * len(batches)
    alone, record = forks.weights(tmp_path / "one"), forks.record(tmp_path / "one")
    for rank in (0, 1):
        for name, weight in forks.weights(tmp_path / "two", rank).items():
            assert torch.allclose(weight, alone[name], atol=1e-6), name
        losses = [entry["loss"] for entry in forks.record(tmp_path / "two", rank).values()]
        assert losses == pytest.approx([entry["loss"] for entry in record.values()], abs=1e-5)


RUN = {
    "max_steps": 6,
    "accumulate_grad_batches": 2,
    "checkpoint_every_n_steps": 3,
    "limit_val_batches": 0,
    "module": {"drop_path": 0.0},
}


def test_one_process_and_two_see_the_same_pages_at_each_step_and_one_resumes_the_other(forks, tmp_path):
    one, two, both = tmp_path / "one", tmp_path / "two", tmp_path / "both"
    assert forks.train(one, **RUN, data={"batch_size": 4}) == [0]
    assert forks.train(two, processes=2, **RUN, data={"batch_size": 2}) == [0, 0]
    assert forks.train(both, **{**RUN, "max_steps": 3}, data={"batch_size": 4}) == [0]
    # the schedule depends on max_steps: only the position is compared
    assert forks.train(both, processes=2, ckpt_path="last", **RUN, data={"batch_size": 2}) == [0, 0]
    alone = forks.record(one)
    for folder in (two, both):
        halves = [forks.record(folder, rank) for rank in (0, 1)]
        begin = 1 if folder == two else 7
        for batch in range(begin, 13):
            keys = sorted(key for half in halves for key in half[batch]["keys"])
            assert keys == sorted(alone[batch]["keys"]), batch
            assert folder == both or halves[0][batch]["loss"] == pytest.approx(alone[batch]["loss"], abs=1e-5)
            assert halves[0][batch]["step"] == alone[batch]["step"]


def test_a_run_with_fewer_batches_to_a_step_resumes_in_steps(forks, tmp_path):
    assert forks.train(tmp_path, **{**RUN, "max_steps": 3}, data={"batch_size": 2}) == [0]
    more = {**RUN, "accumulate_grad_batches": 1, "max_steps": 4}
    assert forks.train(tmp_path, ckpt_path="last", **more, data={"batch_size": 4}) == [0]
    lines = (tmp_path / "record-0.jsonl").read_text().splitlines()
    assert (len(lines), json.loads(lines[-1])["batch"], json.loads(lines[-1])["step"]) == (7, 4, 4)
    seen = [key for line in lines for key in json.loads(line)["keys"]]
    assert len(set(seen)) == len(seen) == 16


def test_a_process_that_stalls_ends_the_other_after_the_timeout(forks, tmp_path):
    stalls = {"number": 0, "batch": 1, "rank": 1, "pause": 6}
    begin = time.monotonic()
    assert forks.train(tmp_path, processes=2, **RUN, signals=stalls, collective_timeout=2) == [1, 1]
    assert time.monotonic() - begin < 30


def test_a_checkpoint_that_cannot_be_written_ends_all_processes(forks, tmp_path):
    (tmp_path / "checkpoints").write_text("not a folder")
    assert forks.train(tmp_path, processes=2, **{**RUN, "checkpoint_every_n_steps": 1}) == [1, 1]
    assert len(forks.record(tmp_path, 1)) == 2  # it did not go on alone


MERGE = {"max_steps": 2, "limit_val_batches": 0, "checkpoint_every_n_steps": 0}


def test_the_second_process_waits_for_a_merge(forks, tmp_path):
    given = {**MERGE, "merge": {}}
    assert forks.train(tmp_path / "run", processes=2, **given) == [0, 0]
    assert (tmp_path / "run" / "merged" / "merge.json").is_file()


def test_a_merge_that_fails_ends_the_second_process_too(forks, tmp_path):
    given = {**MERGE, "merge": {"base": "nowhere"}}
    assert forks.train(tmp_path / "run", processes=2, **given) == [1, 1]
