"""Tables and charts of OCRBench v2."""

import pytest

from fcot.evaluation.ocrbench_v2 import score
from fcot.evaluation.ocrbench_v2.tables import chart_values, markdown_html

ROW = "<tr><td>xy</td><td>c</td></tr>"
TABLE = f"<table>{ROW}</table>"


def html(prediction, answer=TABLE):
    return score("table parsing en", "as HTML", prediction, [answer]).score


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (TABLE, 1),
        (f"Here: ```html\n{TABLE}\n```", 1),
        (TABLE.replace("</table>", ""), 1),
        (TABLE.replace("xy", "x<!-- said -->y"), 1),
        (TABLE.replace("xy", "xz"), 1 - 0.5 / 3),
        (TABLE.replace("td", "th"), 1 - 2 / 3),
        (TABLE.replace("<td>xy", '<td colspan="2">xy'), 1 - 1 / 3),
        (TABLE.replace("<td>xy", '<td colspan="two">xy'), 0),
        (TABLE.replace("xy", "<b>xy</b>"), 1 - 0.5 / 4),  # tags are tokens, and count in the size
        (f"<body><div>{TABLE}</div></body>", 0),
        (TABLE.upper(), 0),
        ("| ab | c |", 0),
        ("<table></table>", 0),
    ],
)
def test_html(prediction, expected):
    assert html(prediction) == pytest.approx(expected)


def test_text_behind_an_inner_cell_does_not_count():
    inner = TABLE.replace("xy", f"<table>{ROW}</table>")
    assert html(inner.replace("</td></tr></table></td>", "</td>zz</tr></table></td>"), inner) == 1


def test_texts_of_headings_do_not_count():
    heading = TABLE.replace("td", "th")
    assert html(heading.replace("xy", "other"), heading) == 1


def test_an_english_question_names_the_form_and_a_chinese_one_means_html():
    assert score("table parsing en", "", TABLE, [TABLE]).crashed
    assert score("table parsing cn", "", TABLE, [TABLE]).score == 1
    assert score("table parsing en", "markdown", "|a|\n|-|\n|b|", ["|a|\n|-|\n|b|"]).score == 1


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("```markdown\n| a | b |\n|---|---|\n| c |  |\n```", [["a", "b"], ["c", " "]]),
        ("|a|\n|b|\n|c|", [["a"], ["c"]]),  # the second line is dropped unseen
        ("a|b|c\n-\n||", [["b"], [""]]),
        ("|a|\n|-|\n\n|b|", [["a"], [], ["b"]]),
        ("", [[]]),
    ],
)
def test_lines_of_markdown_become_rows(text, rows):
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    assert markdown_html(text) == f"<html><body><table>{body}</table></body></html>"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("```\n{'a': 1}\n```\n```python\n{'long': 'er'}\n```", {"long": "er"}),
        ("chart = {'a': 1}  # said\n", {"a": 1}),
        ("{'a': '#1'}", {}),
        ("{'a': 1} and so on", {"a": 1}),
        ("So {'a': 1}", {}),
        ('{"a": null}', {}),
        ("{['a']: 1}", {}),
        ("[1]", {}),
    ],
)
def test_a_chart_is_one_dictionary(text, values):
    assert chart_values(text) == values


def test_a_chart_is_compared_by_its_items_in_order():
    answer = {"a": {"x": 1}, "b": "2"}
    assert score("chart parsing en", "", str(answer), [answer]).score == 1
    assert score("chart parsing en", "", "{'b': '2', 'a': {'x': 1}}", [answer]).score < 1
    # characters of a value are parted by blanks: "1" and "12" are one and three characters
    assert score("chart parsing en", "", "{'b': '12'}", [{"b": "1"}]).score == pytest.approx(1 - 2 / 3 / 3)
    assert score("chart parsing en", "", "{'a': 1}", ["{'a': 1}"]).crashed
