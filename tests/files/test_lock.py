"""Processes that make the same set or index at the same time, as two runs on one folder do."""

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import time

import pytest

from fcot.errors import UserError
from fcot.files.lock import claim, one_writer
from shards.feed.datamodule import Shards
from shards.format.indexing import index_shard
from shards.format.manifest import index_set
from shards.format.shard_set import ShardSet
from shards.format.writer import write_set
from shards.render.recipes import Draw

FORK = multiprocessing.get_context("fork")
DRAW = Draw("letters", "train", 0, 8)


def refuse(index):
    raise AssertionError("nothing is to be drawn")


def foreign(folder):
    """Leave only the shards of a set: neither manifest nor index."""
    for path in folder.iterdir():
        if path.suffix != ".tar":
            path.unlink()


def at_once(count, work):
    """Run work in as many processes, all let go at the same moment; return their exit codes and what each returned."""
    gate, answers = FORK.Barrier(count), FORK.SimpleQueue()

    def run():
        gate.wait()
        answers.put(work())

    children = [FORK.Process(target=run) for _ in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    return [child.exitcode for child in children], [answers.get() for child in children if child.exitcode == 0]


def keys(folder):
    samples = ShardSet(folder)
    return samples.manifest_hash, [samples.read(number)["__key__"] for number in range(len(samples))]


@pytest.mark.parametrize("locks", [True, False])
def test_runs_that_start_at_the_same_moment_on_a_set_without_index_all_read_it(tmp_path, monkeypatch, locks):
    write_set(tmp_path / "train", DRAW, 8, shard_size=1)
    if not locks:  # some shared file systems have none
        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no locks")))
    for _ in range(3):
        foreign(tmp_path / "train")
        codes, found = at_once(3, lambda: keys(tmp_path / "train"))
        assert codes == [0, 0, 0]
        assert len(found[0][1]) == 8
        assert found[0] == found[1] == found[2]
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".lock", ".partial")]


def test_the_same_shard_has_the_same_index_byte_for_byte(tmp_path):
    write_set(tmp_path / "train", DRAW, 2)
    shard = tmp_path / "train" / "shard-000000.tar"
    assert len({index_shard(shard).save(tmp_path / "again") for _ in range(8)}) == 1
    before = (tmp_path / "train" / "manifest.json").read_bytes()
    index_set(tmp_path / "train", again=True)
    assert (tmp_path / "train" / "manifest.json").read_bytes() == before  # a run that was begun can go on


def test_of_two_that_draw_the_same_set_one_draws_and_the_other_waits(tmp_path, tmp_path_factory):
    codes, found = at_once(2, lambda: write_set(tmp_path / "train", DRAW, 8, shard_size=1)["shards"])
    assert codes == [0, 0]
    assert found[0] == found[1]
    said = tmp_path_factory.mktemp("said") / "lines"
    said.touch()

    def write():
        with said.open("w", buffering=1) as lines, contextlib.redirect_stdout(lines):
            write_set(tmp_path / "dev", refuse, 2, describe={"seed": 1})

    with one_writer(tmp_path / "dev.lock", "dev"):
        waits = FORK.Process(target=write)
        waits.start()
        while "Another process is writing" not in said.read_text():
            assert waits.is_alive()
            time.sleep(0.01)
        made = write_set(tmp_path / "elsewhere", DRAW, 2, describe={"seed": 1})
        (tmp_path / "elsewhere").rename(tmp_path / "dev")
    waits.join(60)
    assert waits.exitcode == 0
    assert json.loads((tmp_path / "dev" / "manifest.json").read_text()) == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev", "train"]


def test_a_run_that_draws_a_missing_set_keeps_what_another_drew_in_the_meantime(tmp_path):
    options = {"recipe": "letters", "recipe_samples": {"train": 3, "dev": 2}}
    codes, _ = at_once(2, lambda: Shards(tmp_path, **options).prepare_data())
    assert codes == [0, 0]
    inode = (tmp_path / "train").stat().st_ino
    write_set(tmp_path / "train", refuse, 3, keep=True)
    assert (tmp_path / "train").stat().st_ino == inode


def test_a_writer_that_is_killed_holds_up_nobody(tmp_path):
    holds = FORK.Event()

    def hold():
        with one_writer(tmp_path / "train.lock", "train"):
            holds.set()
            signal.pause()

    child = FORK.Process(target=hold)
    child.start()
    assert holds.wait(60)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert (tmp_path / "train.lock").exists()
    with one_writer(tmp_path / "train.lock", "train") as waited:
        assert not waited


def test_a_folder_that_is_no_set_is_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.pdf").write_bytes(b"work of years")
    with pytest.raises(UserError, match="exists and is no set of shards"):
        write_set(tmp_path / "mine", DRAW, 1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.pdf"]


def test_a_full_disk_is_said_and_the_set_before_is_kept(tmp_path):
    before = write_set(tmp_path / "train", DRAW, 2)

    def fails():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))  # what a full disk does, to one process
        with pytest.raises(UserError, match=r"train cannot be written .*\nMake room or choose another folder"):
            write_set(tmp_path / "train", DRAW, 8)

    assert at_once(1, fails)[0] == [0]
    assert json.loads((tmp_path / "train" / "manifest.json").read_text()) == before
    assert keys(tmp_path / "train")[1] == ["00000000", "00000001"]


def test_of_many_that_claim_one_holds_and_nobody_waits(tmp_path):
    lock, gate = tmp_path / "shard.lock", FORK.Barrier(4)

    def work():
        with claim(lock) as mine:
            gate.wait()  # nobody leaves before all have asked
            return mine

    codes, found = at_once(4, work)
    assert codes == [0] * 4
    assert sum(found) == 1
    assert not lock.exists()


def test_work_that_is_claimed_again_and_again_is_done_by_one_process_at_a_time(tmp_path):
    lock, inside, done = tmp_path / "shard.lock", tmp_path / "inside", 40

    def work():
        held = 0
        while held < done:
            with claim(lock) as mine:
                if mine:
                    inside.open("x").close()  # fails if another is inside
                    held += 1
                    inside.unlink()
        return held

    codes, found = at_once(3, work)
    assert (codes, found) == ([0] * 3, [done] * 3)
    assert not lock.exists()


def test_what_a_killed_process_claimed_is_free_again(tmp_path):
    holds = FORK.Event()

    def hold():
        with claim(tmp_path / "shard.lock"):
            holds.set()
            signal.pause()

    child = FORK.Process(target=hold)
    child.start()
    assert holds.wait(60)
    with claim(tmp_path / "shard.lock") as mine:
        assert not mine
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with claim(tmp_path / "shard.lock") as mine:
        assert mine
    assert not (tmp_path / "shard.lock").exists()


@pytest.mark.parametrize(("code", "held"), [(errno.ENOLCK, True), (errno.ENOSYS, True), (errno.EIO, None)])
def test_without_locks_everything_is_claimed_and_a_broken_disk_is_an_error(tmp_path, monkeypatch, code, held):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(code, "no locks")))
    if held is None:
        with pytest.raises(OSError, match="no locks"), claim(tmp_path / "shard.lock"):
            pass
    else:
        with claim(tmp_path / "shard.lock") as mine:
            assert mine


def test_a_lock_that_its_last_holder_removed_in_between_is_not_held(tmp_path, monkeypatch):
    lock, flock = tmp_path / "shard.lock", fcntl.flock

    def late(file, how):
        lock.unlink(missing_ok=True)  # as its holder does, between our opening and locking it
        flock(file, how)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", late)
        with claim(lock) as mine:
            assert not mine
    with claim(lock) as mine:
        assert mine
