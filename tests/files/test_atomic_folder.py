import pytest

from fcot.errors import UserError
from fcot.files.atomic_folder import Kind, prepare_output, whole_folder

MERGED = Kind("a merged model", "merge.json")


def write(output, text):
    with whole_folder(output, MERGED) as folder:
        assert not (output / "merge.json").exists() or (output / "merge.json").read_text() != text
        (folder / "merge.json").write_text(text)
        (folder / "parts").mkdir()
        (folder / "parts" / "one").write_text(text)


def test_the_folder_appears_with_all_its_files(tmp_path):
    write(tmp_path / "deep" / "out", "new")
    assert (tmp_path / "deep" / "out" / "parts" / "one").read_text() == "new"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_failure_leaves_the_old_folder_alone(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out", MERGED) as folder:
        (folder / "merge.json").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "merge.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_left_is_removed_and_the_rest_is_not(tmp_path):
    for name in ("out.tmp-17", "out.tmp-18", "out.cache", "outer.tmp-17"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    prepare_output(tmp_path / "out", MERGED, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.cache", "outer.tmp-17"]


def test_a_kill_between_the_renames_of_an_overwrite_loses_nothing(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / "out.previous")
    prepare_output(tmp_path / "out", MERGED, overwrite=True)
    assert (tmp_path / "out" / "merge.json").read_text() == "old"
    write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "merge.json").read_text() == "new"


def test_a_kill_after_the_renames_of_an_overwrite_leaves_the_new_one(tmp_path):
    write(tmp_path / "out", "new")
    (tmp_path / "out.previous").mkdir()
    prepare_output(tmp_path / "out", MERGED, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "merge.json").read_text() == "new"


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    prepare_output(tmp_path / "out", MERGED, overwrite=False)
    write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "merge.json").read_text() == "new"


def test_a_file_is_never_replaced(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="Choose another output folder"):
        prepare_output(tmp_path / "out", MERGED, overwrite=True)
