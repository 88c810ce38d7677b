"""Find what a response concludes."""

import re
from dataclasses import dataclass

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_COLON = re.compile(r"(?:\b(?:final\s+)?answer\b[*_]*\s*[:：]|答案\s*(?:是|为)?\s*[:：])[*_ \t]*", re.IGNORECASE)
_SENTENCE = re.compile(r"\b(?:final |correct |right |final correct )?(?:answer|option) is:?\s+(?![:：])", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s*\{")
_END_OF_SENTENCE = re.compile(r"(?<![A-Z])\.(?=\s|$)|\n")
_MARKS = "*_ \t\n"


class Broken(ValueError):
    """A response stops in the middle of something."""


@dataclass(frozen=True)
class Conclusion:
    """What a response concludes.

    Attributes:
        text: The conclusion.
        start: Where its marker begins in the response without thoughts.
        end: Where it ends.
    """

    text: str
    start: int
    end: int


def without_thoughts(response: str) -> str:
    """Return a response without what stands in `<think>`.

    Raises:
        Broken: If a thought does not end.
    """
    text = _THOUGHT.sub("", response)
    if "<think>" in text.lower():
        raise Broken("a thought does not end")
    return text


def conclusions(text: str) -> list[Conclusion]:
    """Return the conclusions that markers name, in order; those that share a place are one.

    Args:
        text: A response without thoughts.

    Raises:
        Broken: If a box or a tag does not end.
    """
    found = [Conclusion(each[1].strip(_MARKS), *each.span()) for each in _ANSWER_TAG.finditer(text)]
    if text.lower().count("<answer>") > len(found):
        raise Broken("an answer's tag does not end")
    found += list(_boxes(text))
    for marker in _COLON.finditer(text):
        found.append(_line(text, marker))
    for marker in _SENTENCE.finditer(text):
        end = _END_OF_SENTENCE.search(text, marker.end())
        stop = end.start() if end else len(text)
        found.append(Conclusion(text[marker.end() : stop].strip(_MARKS), marker.start(), stop))
    found.sort(key=lambda each: (each.start, -each.end))
    kept: list[Conclusion] = []
    for each in found:
        if kept and each.start < kept[-1].end and each.end <= kept[-1].end + 2:
            if "\\boxed" in kept[-1].text and "\\boxed" not in each.text:  # the box within is what is concluded
                kept[-1] = Conclusion(each.text, kept[-1].start, kept[-1].end)
            continue
        kept.append(each)
    return kept


def _line(text: str, marker: re.Match[str]) -> Conclusion:
    """Return what follows a marker on its line, or on the next if there is nothing."""
    end = text.find("\n", marker.end())
    end = len(text) if end < 0 else end
    value = text[marker.end() : end].strip(_MARKS)
    if not value:
        rest = text[end:].lstrip("\n ")
        start = len(text) - len(rest)
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        value = text[start:end].strip(_MARKS)
    return Conclusion(value, marker.start(), end)


def _boxes(text: str) -> list[Conclusion]:
    """Return what stands in boxes, braces nested."""
    found = []
    for box in _BOX.finditer(text):
        depth, place = 1, box.end()
        while place < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[place], 0) if text[place - 1] != "\\" else 0
            place += 1
        if depth:
            raise Broken("a box does not end")
        found.append(Conclusion(text[box.end() : place - 1].strip(), box.start(), place))
    return found


def bare(text: str) -> str:
    """Return a conclusion without Markdown, dollar signs of LaTeX and a final stop."""
    text = text.strip(_MARKS)
    if text.startswith("\\boxed{") and text.endswith("}"):
        text = text[len("\\boxed{") : -1]
    if text.count("$") == 2 and text[0] == text[-1] == "$":
        text = text[1:-1]
    text = text.strip(_MARKS)
    return text[:-1].rstrip(_MARKS) if text.endswith(".") else text


def concluded(answer: str) -> str:
    """Return the last conclusion of an answer; the whole text where no marker stands."""
    try:
        text = without_thoughts(answer)
        found = conclusions(text)
    except Broken:
        return answer.strip()
    return bare(found[-1].text) if found else text.strip()
