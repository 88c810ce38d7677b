"""Questions with lettered options."""

import re
from collections.abc import Mapping, Sequence

from fcot.evaluation.benchmarks.benchmark import LETTER

CHINESE_LETTER = "请直接回答选项字母。"
_CHINESE = re.compile("[\u4e00-\u9fff]")
_OPTION = re.compile(r"([A-Z])\. (.*)")


def lettered(texts: Sequence[str]) -> dict[str, str]:
    """Return options by their letters."""
    return {chr(ord("A") + number): str(text) for number, text in enumerate(texts)}


def with_options(question: str, choices: Mapping[str, str], *, chinese: bool = False) -> str:
    """Return a question, its options a line each, and the instruction to give the letter.

    Args:
        question: The question.
        choices: Text of each option by its letter.
        chinese: Give the instruction in Chinese where the question is, as VLMEvalKit does.
    """
    asked = "\n".join([question, *(f"{letter}. {text}" for letter, text in choices.items())])
    return f"{asked}\n{CHINESE_LETTER if chinese and _CHINESE.search(asked) else LETTER}"


def without_options(text: str) -> tuple[str, dict[str, str]]:
    """Return the question and the options of a text that `with_options` made."""
    lines = text.removesuffix(f"\n{LETTER}").split("\n")
    choices: dict[str, str] = {}
    while len(lines) > 1 and (found := _OPTION.fullmatch(lines[-1])):
        choices[found[1]] = found[2]
        lines.pop()
        if found[1] == "A":
            break
    return "\n".join(lines), dict(reversed(choices.items()))
