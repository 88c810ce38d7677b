"""Text spotting of OCRBench v2."""

import pytest

from fcot.evaluation.ocrbench_v2 import score


def flat(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


BOXES = [flat(100, 100, 300, 200), flat(400, 400, 600, 500)]


def spotted(prediction, content=("Bread!", "7-19h"), boxes=BOXES):
    return score("text spotting en", "", prediction, ["x"], bbox=boxes, content=list(content))


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("[[100,100,300,200,'Bread!'],[400,400,600,500,'7-19H']]", 1),
        ("[[100,100,300,200,'bread'],(400,400,600,500,'7-19h')]", 1),  # a mark at an end of the answer may be missing
        ("[[100,100,300,200,'Bread!'],[400,400,600,500,'7-19h!']]", 0.5),  # but none may be added
        ("(100,100,300,200,Bread!) and [ 400, 400, 600, 500, '7-19h' ]", 1),
        ("[[100.0,100,300,200,'Bread!'],[400,400,600,500,'7-19h']]", 2 / 3),
        ("[[100,100,300,1001,'Bread!'],[400,400,600,500,'7-19h']]", 2 / 3),
        ("[[100,100,300,200,'Bread!'],[100,100,300,200,'Bread!']]", 2 / 3),  # repeats are dropped
        ("[[100,100,200,200,'Bread!']]", 0),  # exactly a half overlaps
        ("[[100,100,201,200,'Bread!']]", 2 / 3),
        ("[[100,100,300,200,'Cake'],[101,100,300,200,'Bread!']]", 0),  # a wrong text uses the answer up
        ("{'a': 1}", 0),
        ("", 0),
        ("[" + " " * 5000, 0),
    ],
)
def test_texts_in_the_right_place(prediction, expected):
    assert spotted(prediction).score == pytest.approx(expected)


def test_a_text_that_may_be_read_or_not_counts_on_neither_side():
    said = "[[110,110,290,190,'anything'],[400,400,600,500,'7-19h']]"
    assert spotted(said, ("###", "7-19h")).score == 1
    assert spotted(said, ("###", "###")).score == 0


def test_a_box_answers_one_text_only_right_or_wrong():
    assert spotted("[[100,100,300,200,'b']]", ("a", "b"), [BOXES[0]] * 2).score == 0
    assert spotted("[[100,100,300,200,'a']]", ("a", "b"), [BOXES[0]] * 2).score == pytest.approx(2 / 3)


def test_boxes_without_a_text_vanish():
    assert spotted("[[100,100,300,200,'Bread!']]", ("Bread!",)).score == 1


def test_quotes_around_all_of_an_answer_are_dropped():
    assert spotted("[[100,100,300,200,'Bread']]", ('"Bread"',)).score == 1


@pytest.mark.parametrize("text", ["", "two\nlines"])
def test_a_found_box_with_no_or_several_lines_of_text_stops_the_official_script(text):
    assert spotted("[[100,100,300,200,'x']]", (text,)).crashed
    assert not spotted("[[700,700,800,800,'x']]", (text,)).crashed
