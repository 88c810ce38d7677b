"""Boxes: where a text is."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from fcot.evaluation.ocrbench_v2.short_text import vqa
from fcot.evaluation.ocrbench_v2.values import parsed

_BOX = re.compile(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*[)\]]")
LARGEST = 1000  # thousandths of the picture's width or height


def grounding(prediction: str, answer: Sequence[Any]) -> float:
    """Return the overlap of the last box that is said with the right one."""
    found = [tuple(int(each) for each in match) for match in _BOX.findall(prediction)]
    able = [box for box in found if all(each <= LARGEST for each in box)]
    return iou(able[-1], answer) if able else 0.0


def answer_with_position(prediction: str, answers: Sequence[Any], bbox: Sequence[Any]) -> float:
    """Return half of the answer's score and half of its box's overlap."""
    found = parsed(prediction)
    score = vqa(found["answer"], answers, None) if "answer" in found else 0.0
    try:
        overlap = iou(ast.literal_eval(found["bbox"]), bbox)
    except Exception:  # anything that is no box
        overlap = 0.0
    return 0.5 * score + 0.5 * overlap


def iou(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the intersection of two boxes over their union, 0 if the union is empty; corners are not put in order."""
    a, b, c, d = (int(each) for each in one)
    e, f, g, h = (int(each) for each in other)
    inner = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    union = (c - a) * (d - b) + (g - e) * (h - f) - inner
    return inner / union if union else 0.0
