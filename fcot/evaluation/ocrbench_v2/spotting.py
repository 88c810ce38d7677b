"""Text spotting: texts and where they are, by the protocol of the Robust Reading Competition."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fcot.evaluation.ocrbench_v2.boxes import LARGEST
from fcot.evaluation.ocrbench_v2.crash import Crash

_GROUP = re.compile(r"[\[(]([^\[\]()]*)[\])]")
ANY = "###"  # an answer that may be read or not
MARKS = "!?.:,*\"()·[]/'"
OVERLAP = 0.5


@dataclass(frozen=True)
class Spot:
    """A text in a box.

    Attributes:
        box: Left, top, right, bottom.
        text: What it says.
    """

    box: tuple[int, int, int, int]
    text: str

    @property
    def area(self) -> int:
        """Width times height."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def inner(self, other: "Spot") -> int:
        """Return the area that two boxes share."""
        one, two = self.box, other.box
        width = min(one[2], two[2]) - max(one[0], two[0])
        height = min(one[3], two[3]) - max(one[1], two[1])
        return max(0, width) * max(0, height)


def spotting(prediction: str, polygons: Sequence[Sequence[Any]], contents: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall of texts found in the right place.

    Raises:
        Crash: If a box is found whose text is empty or has several lines.
    """
    said = list(dict.fromkeys(spots(prediction)))
    found = [each for each in said if each.box[0] < each.box[2] and each.box[1] < each.box[3]]
    answers = [
        Spot((min(flat[0::2]), min(flat[1::2]), max(flat[0::2]), max(flat[1::2])), _plain(text))
        for flat, text in zip(polygons, contents, strict=False)
    ]
    found = [Spot(each.box, _plain(each.text)) for each in found]
    optional = [answer for answer in answers if answer.text == ANY]
    cared = [each for each in found if not any(each.area and each.inner(one) / each.area > OVERLAP for one in optional)]
    wanted = [answer for answer in answers if answer.text != ANY]
    used: set[int] = set()
    correct = 0
    for answer in wanted:
        for number, each in enumerate(cared):
            shared = answer.inner(each)
            union = answer.area + each.area - shared
            if number not in used and union and shared / union > OVERLAP:
                if not answer.text or "\n" in answer.text:
                    raise Crash("a box is found whose right text is empty or has several lines")
                used.add(number)
                correct += _same(answer.text, each.text)
                break
    if not wanted or not cared or not correct:
        return 0.0
    precision, recall = correct / len(cared), correct / len(wanted)
    return 2 * precision * recall / (precision + recall)


def spots(prediction: str) -> list[Spot]:
    """Return the texts and boxes that a prediction lists, boxes outside of the picture left out."""
    try:
        value = ast.literal_eval(prediction)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        value = None
    if value is None:
        rows: list[Sequence[Any]] = [each.strip().split(",", 4) for each in _GROUP.findall(prediction)]
    else:
        rows = [each for each in value if isinstance(each, list | tuple)] if isinstance(value, list | tuple) else []
    found = []
    for row in rows:
        if len(row) < 5:
            continue
        try:
            left, top, right, bottom = (int(str(each).strip()) for each in row[:4])
        except ValueError:
            continue
        text = str(row[4]).replace("\n", "").strip().strip('"').strip("'")
        box = (left, top, right, bottom)
        if all(0 <= each <= LARGEST for each in box):
            found.append(Spot(box, text))
    return found


def _plain(text: str) -> str:
    """Return a text without carriage returns and the quotes around all of it."""
    text = text.replace("\r", "")
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _same(answer: str, said: str) -> bool:
    """Return whether two texts agree without case, or without a mark at the answer's start, end or both."""
    answer, said = answer.upper(), said.upper()
    first, last = answer[:1] in MARKS and answer != "", answer[-1:] in MARKS and answer != ""
    return said in (
        {answer}
        | ({answer[1:]} if first else set())
        | ({answer[:-1]} if last else set())
        | ({answer[1:-1]} if first and last else set())
    )
