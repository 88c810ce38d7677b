"""The verb `reproduce looks`: pages of a folder, models side by side, what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from fcot.cli.main import main
from fcot.errors import UserError
from fcot.reproduce.looks import asked_of, names_of
from fcot.reproduce.looks_pages import drawn_pages


@pytest.fixture
def pages(tmp_path):
    """A folder with two pages, of one tile and of two."""
    folder = tmp_path / "pages"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name, shape in (("b.png", (56, 112, 3)), ("a.jpg", (56, 56, 3))):
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no page")
    return folder


def test_pages_of_a_folder_are_looked_at_by_each_model(tiny_checkpoint, student_folder, pages, tmp_path, capsys):
    given = ["--page", str(pages), "--question", "One?", "--question", "Two?", "--output", str(tmp_path / "out")]
    given += ["--max_new_tokens", "3", "--layers", "[0]", "--device", "cpu"]
    main(["reproduce", "looks", str(tiny_checkpoint), str(student_folder), *given])
    found = json.loads((tmp_path / "out" / "looks.json").read_text())["pages"]
    assert [(page["page"], page["question"]) for page in found] == [("a.jpg", "One?"), ("b.png", "Two?")]
    with Image.open(tmp_path / "out" / "looks.png") as picture:
        assert picture.width == 1800
    teacher, student = found[1]["models"].values()
    assert (teacher["visual_tokens"], student["visual_tokens"]) == (12, 6)
    assert teacher["grid"] == [2, 1] and np.shape(teacher["heat"]) == np.shape(student["heat"]) == (2, 4)
    total = np.sum(student["heat"]) + np.sum(student["thumbnail_heat"])
    assert total == pytest.approx(12, abs=1e-2)  # a cell has 1 on average
    assert len(student["tokens"]) == len(student["attention_on_visual_tokens"]) == 3
    assert teacher["agreement_with_first"] is None
    assert -1 <= student["agreement_with_first"]["correlation"] <= 1
    assert found[0]["models"][names_of([student_folder])[0]]["thumbnail_heat"] is None
    assert "b.png: Two?" in capsys.readouterr().out


def test_an_elastic_student_answers_once_with_each_number_of_visual_tokens(tiny_checkpoint, pages, tmp_path):
    from fcot.models.spec import StudentSpec
    from fcot.models.student_folder import save_student
    from fcot.models.student_teacher import StudentTeacher

    pair = StudentTeacher(tiny_checkpoint, StudentSpec("conv", 2, ratios=(2, 4)))
    save_student(pair.student, tmp_path / "elastic", tiny_checkpoint)
    given = ["--page", str(pages / "b.png"), "--output", str(tmp_path / "out"), "--max_new_tokens", "2"]
    given += ["--visual_tokens", "[4, 1]", "--device", "cpu"]
    main(["reproduce", "looks", str(tiny_checkpoint), str(tmp_path / "elastic"), *given])
    (page,) = json.loads((tmp_path / "out" / "looks.json").read_text())["pages"]
    assert [model["visual_tokens"] for model in page["models"].values()] == [12, 12, 3]
    assert [*page["models"]][2].endswith("1 visual tokens a tile")


def test_what_cannot_be_asked_is_said(pages, tmp_path):
    with pytest.raises(UserError, match="3 questions for 2 pages"):
        asked_of([pages], ["a", "b", "c"], 0)
    with pytest.raises(UserError, match=r"There is no image in .*empty"):
        (tmp_path / "empty").mkdir()
        asked_of([tmp_path / "empty"], None, 0)
    assert [text for _, _, text in asked_of([pages], ["a"], 0)] == ["a", "a"]


def test_names_tell_models_apart(tmp_path):
    assert names_of([tmp_path / "a" / "student", tmp_path / "b" / "student"]) == ["a/student", "b/student"]
    assert names_of([tmp_path / "a" / "student", tmp_path / "b"]) == ["student", "b"]
    with pytest.raises(UserError, match=r"The model .*a is given twice"):
        names_of([tmp_path / "a", tmp_path / "b", tmp_path / "a"])


def test_drawn_pages_are_a_text_a_table_and_a_slide_by_seed():
    first, again, other = drawn_pages(0), drawn_pages(0), drawn_pages(1)
    assert [name for name, _, _ in first] == ["text", "table", "slide"]
    assert all(np.array_equal(a, b) for (_, a, _), (_, b, _) in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for (_, a, _), (_, b, _) in zip(first, other, strict=True))
