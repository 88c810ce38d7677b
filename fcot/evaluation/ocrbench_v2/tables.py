"""Tables and charts, made into HTML that TEDS compares."""

import ast
import re
from typing import Any

from fcot.evaluation.ocrbench_v2.crash import Crash
from fcot.evaluation.ocrbench_v2.teds import teds

FENCE = re.compile(r"```(?:python|json)?\n(.*?)\n```", re.DOTALL | re.IGNORECASE)
_NAMED = re.compile(r"^\s*\w+\s*=\s*")


def table(prediction: str, answer: str, question: str, *, html: bool = False) -> float:
    """Return the TEDS of a table in the form that the question asks for.

    Args:
        prediction: The generated table.
        answer: The accepted one.
        question: Says HTML or Markdown.
        html: It is HTML whatever the question says.

    Raises:
        Crash: If it says neither, at which the official script stops.
    """
    asked = question.lower()
    if html or "html" in asked:
        return teds(*(wrapped(text) for text in (cut_html(prediction), answer))) if cut_html(prediction) else 0.0
    if "markdown" in asked:
        return teds(markdown_html(prediction), markdown_html(answer))
    raise Crash("a question for neither HTML nor Markdown")


def cut_html(text: str) -> str:
    """Return a prediction from its body or table on, on one line; empty if it has neither."""
    text = text.replace("\n", "")
    for start in ("<body", "<table"):
        if start in text:
            return text[text.index(start) :]
    return ""


def wrapped(text: str) -> str:
    """Return HTML with the table, body and document around it that are missing."""
    text = text.replace("\n", "")
    opened, closed = "<table" in text, "</table>" in text
    if opened and not closed:
        text += "</table>"
    elif closed and not opened:
        text = "<table>" + text
    elif not opened:
        text = f"<table>{text}</table>"
    if "<body>" not in text:
        text = f"<body>{text}</body>"
    return text if "<html>" in text else f"<html>{text}</html>"


def markdown_html(text: str) -> str:
    """Return a Markdown table as HTML: the second line is dropped unseen, and every other one is a row."""
    first, *rest = text.strip("`markdown").strip("`").strip().split("\n")
    rows = [[_cell(cell) for cell in line.strip().split("|")[1:-1]] for line in (first, *rest[1:])]
    cells = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return f"<html><body><table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table></body></html>"


def _cell(text: str) -> str:
    return " " if text and not text.strip() else text.strip()


def chart(prediction: str, answer: Any) -> float:
    """Return the TEDS of a chart's values as dictionaries, whose items are rows of a table."""
    found = chart_values(prediction)
    return teds(_items_html(found), _items_html(answer)) if found else 0.0


def chart_values(text: str) -> dict[Any, Any]:
    """Return the dictionary in a prediction, an empty one if there is none."""
    if not text:
        return {}
    fenced = FENCE.findall(text)
    code = max(fenced, key=len) if fenced else text.strip()
    code = _NAMED.sub("", code)
    code = "\n".join(line.split("#")[0] for line in code.split("\n"))
    code = code[: code.rfind("}") + 1] if "}" in code else code
    try:
        value = ast.literal_eval(code.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return {}
    return value if isinstance(value, dict) else {}


def _items_html(values: dict[Any, Any]) -> str:
    rows = (f"<tr><td>{key}</td><td>{' '.join(str(value))}</td></tr>" for key, value in values.items())
    return f"<html><body><table>{''.join(rows)}</table></body></html>"
