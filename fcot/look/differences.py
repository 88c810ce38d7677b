"""What differs between two answers, word by word."""

import re
from difflib import SequenceMatcher
from typing import Literal

Piece = tuple[Literal["same", "added", "lacking"], str]

# A number with its separators is one word; so is each sign of a script that is written without spaces.
SIGN = "\u2e80-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"\d[\d.,:]*\d|[{SIGN}]|[^\W{SIGN}]+|\s|[^\w\s]")


def differences(first: str, second: str) -> list[Piece]:
    """Return the second answer in pieces: what is as in the first, what is added, and what of the first is lacking.

    The pieces that are not "lacking" make up the second answer, those that are not "added" the first; characters that a
    browser would not show are replaced.
    """
    one, other = WORD.findall(visible(first)), WORD.findall(visible(second))
    pieces: list[Piece] = []
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(other[c:d])))
            continue
        if a < b:
            pieces.append(("lacking", "".join(one[a:b])))
        if c < d:
            pieces.append(("added", "".join(other[c:d])))
    return pieces


def visible(text: str) -> str:
    """Return a text with characters that a browser would not show replaced: models may generate any byte."""
    return "".join(letter if letter == "\n" or letter.isprintable() else "�" for letter in text)
