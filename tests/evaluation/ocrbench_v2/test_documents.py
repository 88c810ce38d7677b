"""Outlines of documents of OCRBench v2."""

import pytest

from fcot.evaluation.ocrbench_v2 import score
from fcot.evaluation.ocrbench_v2.documents import cleaned, outline

TEXT = "before\n# A\none\n## B\ntwo\nthree"


def drawn(node):
    return node.label if not node.children else (node.label, [drawn(child) for child in node.children])


def test_headings_of_any_level_are_below_the_root():
    assert drawn(outline(TEXT)) == ("ROOT", [("TITLE", ["before"]), (" A", ["one"]), (" B", ["two", "three"])])


def test_a_heading_is_found_again_by_its_words():
    assert drawn(outline("# A\none\n# A\ntwo")) == ("ROOT", ["TITLE", (" A", ["one", "two"]), " A"])
    assert drawn(outline("A\n#A\none")) == ("ROOT", [("TITLE", [("A", ["one"])]), "A"])
    assert drawn(outline("#TITLE\none")) == ("ROOT", [("TITLE", ["one"]), "TITLE"])
    assert drawn(outline("#\none")) == ("ROOT", [("TITLE", ["one"]), ""])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a <eos>b", "a b"),
        ("a ##b", "ab"),
        ("{ a }", "{a}"),
        (r"\begin {x}", r"\begin{x}"),
        (r"\end{table}", r"\end{table}   "),
        ("*a_b*", " a b "),
    ],
)
def test_lines_are_cleaned(line, expected):
    assert cleaned(line) == expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (TEXT, 1),
        ("x\n# y\nz\n# v\nw\nu", 1),  # words do not count
        (TEXT.replace("\nthree", ""), 1 - 1 / 8),
        (None, 0),
    ],
)
def test_only_the_shape_counts(prediction, expected):
    for kind in ("document parsing en", "document parsing cn"):
        assert score(kind, "", prediction, [TEXT]).score == pytest.approx(expected)


def test_a_blank_line_is_like_no_other():
    assert score("document parsing en", "", "a\n \nb", ["a\nc\nb"]).score == pytest.approx(1 - 1 / 5)
    assert score("document parsing en", "", "a\n\nb", ["a\n\nb"]).score == pytest.approx(1 - 1 / 5)
