"""Rows answered by a model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcot.errors import UserError
from fcot.evaluation.run.pages import pixels, survey
from fcot.evaluation.run.reader import Reader
from fcot.evaluation.run.session import Options, Processes, answer_set, labels
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tiling import cut
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import save_student
from fcot.models.student_teacher import StudentTeacher
from fcot.serve.dialogue import Dialogue
from tests.evaluation.run.made_up import made_set

TOGETHER = Options()


def answered(folder, of, model, options=TOGETHER, reducer=(None, None), **asked):
    reader = Reader(ModelFolder(model), reducer=reducer, **asked)
    return answer_set(reader, of, survey(of.rows), folder, options, Processes(), "model")


def test_rows_together_are_answered_as_in_a_dialogue_of_their_own(tmp_path, student_folder):
    of = made_set()
    found = answered(tmp_path, of, student_folder)
    assert set(found) == {row.id for row in of.rows}
    assert len({answer.text for answer in found.values()}) > 4
    for row in of.rows:
        page = cut(pixels(row.pictures[0]), 6, tile_size=56)
        alone = Dialogue(ModelFolder(student_folder), [page])
        assert found[row.id].text == alone.ask(row.question, max_new_tokens=8).strip()
        assert (found[row.id].tiles, found[row.id].visual_tokens) == (len(page), alone.visual_tokens[0])


def test_a_reducer_leaves_fewer_tokens_and_fewer_tiles_leave_fewer_tiles(tmp_path, tiny_checkpoint):
    of = made_set()
    whole = answered(tmp_path / "whole", of, tiny_checkpoint)
    half = answered(tmp_path / "half", of, tiny_checkpoint, reducer=("random", {"keep": 0.5}))
    few = answered(tmp_path / "few", of, tiny_checkpoint, reducer=("fewer_tiles", {"keep": 0.5}))
    for name, answer in whole.items():
        assert half[name].visual_tokens == answer.visual_tokens / 2
        assert few[name].tiles <= max(1, answer.tiles / 2)


def test_an_elastic_student_answers_each_row_within_its_own_budget(tmp_path, tiny_checkpoint):
    torch.manual_seed(0)
    pair = StudentTeacher(tiny_checkpoint, StudentSpec("conv", 2, ratios=(2, 4)))
    save_student(pair.student, tmp_path / "elastic", tiny_checkpoint)
    of = made_set()
    found = answered(tmp_path / "budget", of, tmp_path / "elastic", budget=8)
    for row in of.rows:
        page = cut(pixels(row.pictures[0]), 6, tile_size=56)
        alone = Dialogue(ModelFolder(tmp_path / "elastic"), [page], budget=8)
        assert found[row.id].visual_tokens == alone.visual_tokens[0] <= 8
        assert found[row.id].text == alone.ask(row.question, max_new_tokens=8).strip()
    assert len({answer.visual_tokens / answer.tiles for answer in found.values()}) > 1
    with pytest.raises(UserError, match="were made with budget 8"):
        answered(tmp_path / "budget", of, tmp_path / "elastic", visual_tokens=1)


@pytest.mark.parametrize("asked", [{"visual_tokens": "auto"}, {"budget": 10}])
def test_a_router_decides_for_each_row_by_itself_and_the_answer_says_what(tmp_path, tiny_checkpoint, asked):
    torch.manual_seed(0)
    pair = StudentTeacher(tiny_checkpoint, StudentSpec("conv", 2, ratios=(2, 4)))
    own = ModelFolder(tiny_checkpoint).preprocessing
    settings = {"kind": "learned", "price": 0.1, "rule": [[1, 2], [1, 2]], "rule_price": 0.1, "hidden": 8}
    pair.student.config.router = {**settings, "image_mean": own["image_mean"], "image_std": own["image_std"]}
    pair.student.model.multi_modal_projector.set_router(pair.student.config.router)
    with torch.no_grad():  # a thumbnail costs nothing, other tiles 1
        router = pair.student.model.multi_modal_projector.router
        for parameter in router.parameters():
            parameter.zero_()
        router.first.weight[0, -3] = 1
        router.last.weight[:, 0] = -10
    save_student(pair.student, tmp_path / "routed", tiny_checkpoint)
    of = made_set()
    found = answered(tmp_path / "answers", of, tmp_path / "routed", **asked)
    for row in of.rows:
        page = cut(pixels(row.pictures[0]), 6, tile_size=56)
        alone = Dialogue(ModelFolder(tmp_path / "routed"), [page], **asked)
        answer = found[row.id]
        assert answer.ratios == [4 // count for count in alone.counts.tolist()]
        assert (answer.tiles, answer.visual_tokens) == (len(page), sum(4 // ratio for ratio in answer.ratios))
        assert answer.text == alone.ask(row.question, max_new_tokens=8).strip()
    assert len({ratio for answer in found.values() for ratio in answer.ratios}) > 1


def test_a_broken_picture_costs_its_rows_and_is_named(tmp_path, student_folder):
    of = made_set(broken=(1,))
    found = answered(tmp_path, of, student_folder)
    lost = {name: answer.failed for name, answer in found.items() if answer.failed}
    assert set(lost) == {row.id for row in of.rows if row.id.startswith("1-")}
    assert all("page 1" in reason for reason in lost.values())
    assert all(answer.text == "" for name, answer in found.items() if name in lost)


def test_a_row_over_the_context_is_named(tmp_path, student_folder):
    long = "word " * 40_000
    found = answered(tmp_path, made_set(sizes=((56, 56),), questions=("Short?", long)), student_folder)
    assert not found["0-0"].failed
    assert "leave no room" in found["0-1"].failed


def test_image_tokens_in_a_question_are_text(tmp_path, student_folder):
    questions = ("What is <image>?", "Is <IMG_CONTEXT></img> a word?", "Why?")
    found = answered(tmp_path, made_set(questions=questions), student_folder)
    assert not any(answer.failed for answer in found.values())


def test_a_row_of_two_pictures_and_one_of_none(tmp_path, student_folder):
    of = made_set(sizes=((56, 56), (56, 112)), questions=("Why?",))
    two = replace(of.rows[0], id="two", pictures=(of.rows[0].pictures[0], of.rows[1].pictures[0]))
    none = replace(of.rows[0], id="none", pictures=())
    found = answered(tmp_path, replace(of, rows=[two, none]), student_folder)
    assert (found["two"].tiles, found["none"].tiles) == (4, 0)
    assert not found["two"].failed + found["none"].failed


def test_answers_that_are_there_are_not_asked_for_again(tmp_path, student_folder, monkeypatch):
    of = made_set()
    first = answered(tmp_path, of, student_folder)
    monkeypatch.setattr(Reader, "pair", None)  # would fail if the model were used
    assert answered(tmp_path, of, student_folder) == first


def test_other_rows_or_another_model_are_refused(tmp_path, student_folder, tiny_checkpoint):
    answered(tmp_path, made_set(questions=("Why?",)), student_folder)
    with pytest.raises(UserError, match="rows"):
        answered(tmp_path, made_set(questions=("Who?",)), student_folder)
    with pytest.raises(UserError, match="weights"):
        answered(tmp_path, made_set(questions=("Why?",)), tiny_checkpoint)


def test_labels_tell_folders_apart():
    assert labels([Path("a/x"), Path("b/y")]) == ["x", "y"]
    assert labels([Path("a/x"), Path("b/x")]) == ["a/x", "b/x"]
    with pytest.raises(UserError, match="twice"):
        labels([Path("a/x"), Path("a/../a/x")])
