import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from fcot.cli.main import main
from fcot.convert.auto_convert import native_folder
from fcot.convert.native import convert_to_native
from fcot.convert.original import convert_to_original
from fcot.errors import UserError
from fcot.files.lock import one_writer
from fcot.internvl.checkpoint import ModelFolder

REALIGN = Path(__file__).parents[2] / "configs" / "realign_tiny.yaml"


@pytest.fixture
def original(tiny_checkpoint, tmp_path):
    """The tiny world's teacher in the original layout."""
    convert_to_original(tiny_checkpoint, tmp_path / "teacher")
    return tmp_path / "teacher"


def test_a_folder_in_the_original_layout_is_converted_beside_itself_once(original, capsys):
    native = native_folder(original)
    assert native == original.with_name("teacher-native")
    assert ModelFolder(native).config.model_type == "internvl"
    assert f"converting it to {native}" in capsys.readouterr().out
    written = (native / "model.safetensors").stat().st_mtime_ns
    assert native_folder(original) == native
    assert (native / "model.safetensors").stat().st_mtime_ns == written
    assert capsys.readouterr().out == ""


def test_other_folders_are_left_as_they_are(tiny_checkpoint, tmp_path):
    assert native_folder(tiny_checkpoint) == tiny_checkpoint
    assert native_folder(tmp_path / "nowhere") == tmp_path / "nowhere"


def test_a_file_system_without_locks_is_no_hindrance(original, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    assert (native_folder(original) / "model.safetensors").is_file()
    assert "a file system without locks" in capsys.readouterr().out


def test_the_lock_is_taken_on_a_file_open_for_writing(original, monkeypatch):
    lock = fcntl.flock

    def strict(file, how):  # as NFS does
        if how & fcntl.LOCK_EX and fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", strict)
    native_folder(original)
    assert sorted(path.name for path in original.parent.iterdir()) == ["teacher", "teacher-native"]


def test_another_process_waits_and_takes_what_was_converted(original, capsys):
    native = original.with_name("teacher-native")
    with one_writer(native.with_name("teacher-native.lock"), "native"):
        other = threading.Thread(target=native_folder, args=[original])
        other.start()
        while "is writing" not in capsys.readouterr().out:
            assert other.is_alive()
        convert_to_native(original, native)
        written = (native / "model.safetensors").stat().st_mtime_ns
    other.join(60)
    assert (native / "model.safetensors").stat().st_mtime_ns == written
    assert "converting" not in capsys.readouterr().out


def test_a_place_that_is_only_read_is_said_and_no_matter_once_it_is_converted(original, monkeypatch):
    opened = os.open

    def read_only(path, flags, *rest, **kinds):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *rest, **kinds)

    with monkeypatch.context() as here:
        here.setattr(os, "open", read_only)
        with pytest.raises(UserError, match=r"teacher-native cannot be written .*\nConvert to another place, and give"):
            native_folder(original)
    native = native_folder(original)
    monkeypatch.setattr(os, "open", read_only)
    assert native_folder(original) == native


def test_a_folder_that_changed_since_is_not_silently_taken_for_the_old_one(original):
    native = native_folder(original)
    later = (native / "config.json").stat().st_mtime + 5
    os.utime(original / "model.safetensors", (later, later))
    with pytest.raises(UserError, match=r"model\.safetensors is newer than .*teacher-native"):
        native_folder(original)


def test_a_model_folder_in_the_original_layout_names_the_one_command(original):
    with pytest.raises(UserError, match=r"fcot convert \S+teacher \S+teacher-native"):
        ModelFolder(original)


def test_what_a_folder_lacks_is_said_when_it_is_converted_and_when_it_is_needed(make_original, capsys):
    native = native_folder(make_original("internlm2"))
    assert "no tokenizer files" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"-native has no tokenizer \(tokenizer.json or tokenizer.model\)"):
        ModelFolder(native).encoder()


def test_realignment_runs_from_the_original_layout_with_one_line_changed(original, tiny_shards, tmp_path, capsys):
    options = {
        "--model.checkpoint": original,  # the one line; the rest makes the run short
        "--model.max_new_tokens": 4,
        "--data.root": tiny_shards,
        "--data.recipe": "null",
        "--data.batch_size": 2,
        "--data.eval_batch_size": 2,
        "--data.num_workers": 0,
        "--trainer.fast_dev_run": "true",
        "--trainer.default_root_dir": tmp_path / "run",
    }
    main(["fit", "--config", str(REALIGN), *(str(word) for option in options.items() for word in option)])
    assert (tmp_path / "teacher-native" / "model.safetensors").is_file()
    assert "Re-alignment trains" in capsys.readouterr().out
