"""A checkpoint is there whole or not at all, and what has changed since it was written is named."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fcot.errors import UserError
from fcot.runtime.checkpoints.folder import MANIFEST, DamagedCheckpoint, newest_valid, read_checkpoint, write_checkpoint

STATE = {"step": 1, "weights": {"first": torch.zeros(100), "second": torch.ones(1000)}, "none": torch.zeros(0)}


@pytest.fixture
def path(tmp_path):
    write_checkpoint(STATE, tmp_path / "step-000001.ckpt")
    return tmp_path / "step-000001.ckpt"


def flip(file, place, bit=1):
    content = bytearray(file.read_bytes())
    content[place] ^= bit
    file.write_bytes(content)


def test_a_checkpoint_comes_back(path):
    state = read_checkpoint(path)
    assert state["step"] == 1
    assert state["weights"]["second"].equal(torch.ones(1000))
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_flipped_bit_in_a_tensor_is_named(path):
    flip(path / "model.safetensors", -200)
    with pytest.raises(DamagedCheckpoint, match=r"step-000001\.ckpt is damaged: tensor 'weights/second' has changed"):
        read_checkpoint(path)


@pytest.mark.parametrize("place", [0, 8, 20, 60, 120])
def test_a_flipped_bit_in_the_header_of_the_tensors_is_noticed(path, place):
    flip(path / "model.safetensors", place)
    with pytest.raises(DamagedCheckpoint):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["state.json", MANIFEST])
@pytest.mark.parametrize("place", [5, -40])
def test_a_flipped_bit_in_another_file_is_noticed(path, name, place):
    flip(path / name, place)
    with pytest.raises(DamagedCheckpoint, match=name):
        read_checkpoint(path)


@pytest.mark.parametrize("name", [MANIFEST, "state.json", "model.safetensors"])
def test_a_missing_file_is_named(path, name):
    (path / name).unlink()
    with pytest.raises(DamagedCheckpoint, match=name):
        read_checkpoint(path)


def test_a_truncated_file_of_tensors_is_noticed(path):
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedCheckpoint, match="cannot be opened"):
        read_checkpoint(path)


def test_the_newest_whole_one_is_taken_whatever_its_step(tmp_path):
    for step in (7, 3, 5, 6):  # the run of step 7 was before; 3, 5 and 6 are of a run that began anew
        write_checkpoint({"step": step, "w": torch.ones(5)}, tmp_path / f"step-00000{step}.ckpt")
    told = []
    assert newest_valid(tmp_path, tell=told.append).name == "step-000006.ckpt" and not told
    (tmp_path / "step-000006.ckpt" / MANIFEST).unlink()
    flip(tmp_path / "step-000005.ckpt" / "model.safetensors", -1)
    assert newest_valid(tmp_path, tell=told.append).name == "step-000003.ckpt"
    assert "manifest.json is missing" in told[0] and "tensor 'w' has changed" in told[1]


def test_no_checkpoint_is_nothing_and_only_damaged_ones_are_an_error(tmp_path, path):
    assert newest_valid(tmp_path / "empty") is None
    (path / MANIFEST).unlink()
    with pytest.raises(DamagedCheckpoint, match="manifest"):
        newest_valid(path.parent)


def test_one_at_the_same_path_is_replaced_even_if_damaged(path):
    (path / MANIFEST).unlink()
    write_checkpoint({"step": 2, "w": torch.ones(2)}, path)
    assert read_checkpoint(path)["step"] == 2
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_one_that_was_making_way_when_its_run_was_killed_is_taken(path):
    path.rename(path.with_name(path.name + ".previous"))
    assert newest_valid(path.parent) == path
    assert read_checkpoint(path)["step"] == 1


def test_state_that_cannot_be_saved_leaves_the_one_before(path):
    with pytest.raises(UserError, match="'bad' of a checkpoint"):
        write_checkpoint({"bad": lambda: 0}, path)
    assert read_checkpoint(path)["step"] == 1


FULL = """
import sys
from pathlib import Path
import torch
from fcot.runtime.checkpoints.folder import newest_valid, read_checkpoint, write_checkpoint
from fcot.errors import UserError
folder = Path(sys.argv[1])
write_checkpoint({"step": 1, "w": torch.ones(50_000)}, folder / "step-000001.ckpt")
{fault}
try:
    write_checkpoint({"step": 2, "w": torch.ones(250_000)}, folder / "step-000002.ckpt")
except UserError as error:
    print(error)
print("left:", newest_valid(folder).name, len(list(folder.iterdir())))
"""


def in_a_small_file_system(tmp_path, fault=""):
    """Write two checkpoints to a tmpfs of one MiB, mounted where nobody else sees it."""
    script = tmp_path / "write.py"
    script.write_text(FULL.replace("{fault}", fault))
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f'mount -t tmpfs -o size=1m none "{disk}" && exec "{sys.executable}" "{script}" "{disk}"'
    probe = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(disk)], check=False)
    if probe.returncode:
        pytest.skip("mounting is not allowed here")
    env = {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    }
    done = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


MOMENTS = """
import os
for pages in range(5):  # the disk is full in the tensors, in the state, in the manifest, or just not
    disk = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes((disk.f_bavail - pages) * disk.f_bsize))
    try:
        write_checkpoint({"step": 2, "w": torch.ones(1000)}, folder / "step-000002.ckpt")
    except UserError:
        pass
    print(pages, newest_valid(folder).name, len(list(folder.iterdir())))
    (folder / "filler").unlink()
import shutil
shutil.rmtree(folder / "step-000002.ckpt")
"""


def test_a_full_disk_is_said_and_the_checkpoint_before_is_kept(tmp_path):
    said = in_a_small_file_system(tmp_path, MOMENTS)
    assert said.splitlines()[:5] == [f"{pages} step-000001.ckpt 2" for pages in range(4)] + ["4 step-000002.ckpt 3"]
    assert "step-000002.ckpt could not be written" in said and "No space left" in said
    assert "left: step-000001.ckpt 1" in said


def test_a_read_only_disk_is_said_and_the_checkpoint_before_is_kept(tmp_path):
    remount = 'import subprocess; subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)'
    said = in_a_small_file_system(tmp_path, remount)
    assert "step-000002.ckpt could not be written" in said and "Read-only file system" in said
    assert "left: step-000001.ckpt 1" in said
