"""Runs that are killed, stopped or share a set with another: what was answered is paid once, and nothing is lost."""

import json
import os
import resource
import shutil
import time

import pytest

from fcot.errors import UserError
from shards.factory.journal import Journal
from shards.factory.requests import Sampling
from tests.shards.factory.conftest import HOW, SAMPLING, Made, processes_of, wait_until

CONCURRENCY = 4  # of the command


def lines(made):
    """How many lines the journals of a set have by now."""
    return sum(path.read_bytes().count(b"\n") for path in made.folder.glob("*.jsonl"))


def check_paid(served, run, kept, all_seeds, kills=1):
    """What was in the journal when a run was killed was asked once in all; the rest once more a kill at most."""
    answered = served.answered(run)
    assert set(answered) == set(all_seeds)
    assert not [seed for seed in kept if answered.count(seed) > 1]
    assert max(map(answered.count, all_seeds)) <= 1 + kills
    assert len(answered) <= len(all_seeds) + kills * CONCURRENCY


def kill_at(start, made, length, *more):
    """Start the command, kill it when the journals have so many lines, and return what they hold then."""
    process = start(made.output, "slow@1", *more)
    wait_until(lambda: lines(made) >= length, process=process)
    process.kill()
    process.wait()
    return made.seeds


def finish(start, made, *more):
    process = start(made.output, "slow@1", *more)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize(
    "length", [14, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 5, 11, 12, 13, 19, 25, 33, 40))]
)
def test_a_kill_at_any_length_of_the_journal_costs_no_answer_that_was_written(
    start, served, untroubled, tmp_path, length
):
    made = Made(tmp_path / f"killed{length}")
    kept = kill_at(start, made, length)
    assert length <= len(kept) < len(untroubled.seeds)
    finish(start, made)
    assert made.bytes == untroubled.bytes
    check_paid(served, made.output.name, kept, untroubled.seeds)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_pays_for_each_answer_that_was_written_once(
    start, served, untroubled, tmp_path
):
    made, kills, before = Made(tmp_path / "again"), 0, []
    for length in (6, 14, 22, 30, 38):
        kept = kill_at(start, made, length)
        kills += 1
        paid = {seed: served.answered("again").count(seed) for seed in kept}
        before.append(paid)
    finish(start, made)
    for paid in before:
        assert {seed: served.answered("again").count(seed) for seed in paid} == paid
    check_paid(served, "again", [], untroubled.seeds, kills)
    assert made.bytes == untroubled.bytes
    assert sorted(made.seeds) == sorted(untroubled.seeds)


@pytest.mark.slow
@pytest.mark.parametrize("length", [3, 20])
def test_sigterm_leaves_with_code_75_and_the_same_command_goes_on(start, served, untroubled, tmp_path, length):
    made = Made(tmp_path / f"stopped{length}")
    process = start(made.output, "slow@1")
    wait_until(lambda: lines(made) >= length, process=process)
    process.terminate()
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 75, said
    assert "Traceback" not in said
    kept = made.seeds
    assert len(kept) < len(untroubled.seeds)
    finish(start, made)
    assert made.bytes == untroubled.bytes
    check_paid(served, made.output.name, kept, untroubled.seeds)


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_is_asked_again(start, served, untroubled, tmp_path):
    made = Made(tmp_path / "restarted")
    process = start(made.output, "slow@1")
    wait_until(lambda: lines(made) >= 15, process=process)
    served.kill()
    kept = made.seeds
    time.sleep(2)  # of refused connections
    served.start()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert made.last_run["faults"]["connection"] >= 1
    assert made.bytes == untroubled.bytes
    check_paid(served, "restarted", kept, untroubled.seeds)


@pytest.mark.slow
def test_two_commands_on_one_set_share_the_asking_and_make_the_same_set(start, served, untroubled, tmp_path):
    made = Made(tmp_path / "shared")
    processes = [start(made.output, "slow@1") for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sorted(served.answered("shared")) == sorted(untroubled.seeds)
    assert sorted(made.seeds) == sorted(untroubled.seeds)
    assert made.bytes == untroubled.bytes
    assert not list(made.folder.glob("*.lock"))
    new = [int(text.partition(" of them new")[0].rpartition(" ")[2]) for text in said]
    assert sum(new) == len(untroubled.seeds)
    assert all(new)


def copied(untroubled, folder):
    """A set with its journals, as a run that ended left them."""
    shutil.copytree(untroubled.output, folder)
    shutil.copytree(untroubled.folder, folder.with_name(f"{folder.name}.journal"))
    return Made(folder)


def journal_of(made, number=0):
    return sorted(made.folder.glob("*.jsonl"))[number]


def test_a_half_last_line_is_asked_again_and_nothing_else(make, served, untroubled, tmp_path):
    made = copied(untroubled, tmp_path / "torn")
    path = journal_of(made)
    last = json.loads(path.read_bytes().splitlines()[-1])["response"]["id"]
    path.write_bytes(path.read_bytes()[:-40])
    make("torn")
    assert served.answered("torn") == [int(last[:16], 16) >> 1]
    assert made.bytes == untroubled.bytes
    make("torn")
    assert len(served.calls("torn")) == 1


@pytest.mark.parametrize("at", ["text", "id", "crc", "newline", "quote"])
def test_a_flipped_byte_of_the_journal_costs_that_answer_alone(make, served, untroubled, tmp_path, at, capfd):
    made = copied(untroubled, tmp_path / f"flipped-{at}")
    path = journal_of(made, 1)
    data = bytearray(path.read_bytes())
    start = data.index(b"\n") + 1  # of the second line
    place = {"text": data.index(b'"text": "', start) + 10, "id": data.index(b'"id": "', start) + 9}
    place |= {"crc": start + 10, "newline": data.index(b"\n", start), "quote": data.index(b'"seconds"', start)}
    data[place[at]] ^= 1
    path.write_bytes(data)
    make(f"flipped-{at}")
    assert "1 damaged lines are left aside" in capfd.readouterr().err
    assert len(served.answered(f"flipped-{at}")) == (2 if at == "newline" else 1)
    assert made.bytes == untroubled.bytes
    assert set(served.answered(f"flipped-{at}")) <= set(untroubled.seeds)


@pytest.mark.parametrize(
    ("name", "how", "sampling", "options"),
    [
        ("template", {"template": "{question} Answer."}, SAMPLING, {}),
        pytest.param(*("model", {}, SAMPLING, {"model": "other"}), marks=pytest.mark.slow),
        pytest.param(*("temperature", {}, Sampling(temperature=0.9, max_tokens=120), {}), marks=pytest.mark.slow),
        pytest.param(*("seed", {}, Sampling(temperature=1.0, max_tokens=120, seed=1), {}), marks=pytest.mark.slow),
    ],
)
def test_what_is_asked_in_another_way_is_asked_anew(make, served, untroubled, tmp_path, name, how, sampling, options):
    made = copied(untroubled, tmp_path / f"new-{name}")
    make(f"new-{name}", how=how, sampling=sampling, limit=12, **options)
    asked = served.answered(f"new-{name}")
    assert asked
    assert not set(asked) & set(untroubled.seeds)
    statistics = made.manifest["data_factory"]["statistics"]["tasks"]
    assert sum(row["responses"] for row in statistics.values()) == len(asked)
    make(f"new-{name}")  # and back again
    assert served.answered(f"new-{name}") == asked
    assert made.bytes == untroubled.bytes


def test_more_samples_ask_for_those_alone_and_another_verifier_for_none(make, served, untroubled, tmp_path):
    made = copied(untroubled, tmp_path / "more")
    make("more", how={"samples": 5, "verifiers": {**HOW["verifiers"], "lookup": "text"}})
    assert len(served.answered("more")) == len(untroubled.seeds) // 4
    assert not set(served.answered("more")) & set(untroubled.seeds)
    assert made.bytes != untroubled.bytes
    make("more", how={"verifiers": {**HOW["verifiers"], "lookup": "text"}})
    tasks = made.manifest["data_factory"]["statistics"]["tasks"]
    assert tasks["lookup"]["verifier"] == "text"
    assert len(served.answered("more")) == len(untroubled.seeds) // 4


def limited(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # what a full disk does, to one process


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(start, served, untroubled, tmp_path):
    made = Made(tmp_path / "full")
    process = start(made.output, "", preexec_fn=lambda: limited(4000))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be written" in said
    assert "Make room and run the command again" in said
    assert "Traceback" not in said
    kept = made.seeds
    assert 0 < len(kept) < 12
    assert not journal_of(made).read_bytes().endswith(b"\n")  # the line that had no room
    finish(start, made)
    assert made.bytes == untroubled.bytes
    answered = served.answered("full")
    assert not [seed for seed in kept if answered.count(seed) > 1]
    assert sorted(made.seeds) == sorted(untroubled.seeds)


def test_a_disk_without_any_room_is_said(tmp_path, untroubled):
    journal = Journal(tmp_path / "responses.jsonl")
    journal._file = os.open("/dev/full", os.O_WRONLY)
    response = next(iter(Journal(journal_of(untroubled)).read().values()))[0]
    with pytest.raises(UserError, match=r"No space left on device.*\nMake room and run the command again"):
        journal.append(response)


@pytest.mark.slow
def test_a_kill_while_the_set_is_written_leaves_no_half_set(start, served, untroubled, tmp_path):
    made = copied(untroubled, tmp_path / "written")
    shutil.rmtree(made.output)
    process = start(made.output, "", "--shard_size=1")
    partial = tmp_path / "written.partial"
    wait_until(lambda: len(list(partial.glob("*.tar"))) >= 2 or made.output.exists(), process=process)
    process.kill()
    process.wait()
    finish(start, made)
    assert made.bytes == untroubled.bytes
    assert served.calls("written") == []
    assert not partial.exists()


@pytest.mark.slow
def test_sigterm_while_judging_leaves_with_code_75(start, served, untroubled, tmp_path):
    made = copied(untroubled, tmp_path / "judged")
    shutil.rmtree(made.output)
    process = start(made.output)
    wait_until(lambda: processes_of(process.pid), process=process)
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 75, said
    assert "Traceback" not in said
    assert not processes_of(process.pid)
    finish(start, made)
    assert made.bytes == untroubled.bytes
