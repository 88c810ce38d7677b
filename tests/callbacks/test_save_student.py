"""The student is saved whole, and never over something else."""

import pytest

from callbacks import SaveStudent, ShapleyMerge, Snapshots
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.models.student_folder import load_student
from fcot.training.sft import SFT


def test_a_folder_of_something_else_is_refused_before_training(tmp_path, student_folder, pages, trainer):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"student holds something that is no model"):
        trainer(tmp_path, SaveStudent(), max_steps=1).fit(SFT(student_folder), pages)
    assert (tmp_path / "student" / "thesis.txt").exists()


def test_a_student_of_an_earlier_run_makes_way_as_a_whole(tmp_path, student_folder, pages, trainer):
    for _ in range(2):
        trainer(tmp_path, SaveStudent(), max_steps=1).fit(SFT(student_folder), pages)
        old = tmp_path / "student" / "old.txt"
        assert not old.exists()
        old.write_text("of this run")
    assert load_student(tmp_path / "student").config.ratio == 2
    assert [path.name for path in tmp_path.iterdir() if "student" in path.name] == ["student"]


def test_whatever_a_run_saves_cuts_pages_as_the_run_did(tmp_path, student_folder, pages, trainer):
    saving = (SaveStudent(), Snapshots(count=2), ShapleyMerge(method="average"))
    trainer(tmp_path, *saving, max_steps=2).fit(SFT(student_folder, max_tiles=2, max_new_tokens=1), pages)
    assert ModelFolder(student_folder).max_tiles == 6
    saved = ("student", "merged", "snapshots/base", "snapshots/step-000001", "snapshots/step-000002")
    assert {name: ModelFolder(tmp_path / name).max_tiles for name in saved} == dict.fromkeys(saved, 2)
