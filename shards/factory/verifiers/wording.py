"""Words that take a conclusion back: doubt, alternatives, bounds, denial, refusal, an appeal to a known answer."""

import re
from collections.abc import Sequence

from shards.factory.verifiers.text import folded

_OR = re.compile(r"\b(?:either|or)\b|\S\s+/\s+\S|或", re.IGNORECASE)
_BOUND = re.compile(
    r"\b(?:between|at least|at most|more than|less than|fewer than|greater than|up to|no more than|no less than|over|"
    r"under|above|below|minimum|maximum|from)\b|[<>≤≥]|\d\s*(?:-|–|—|\bto\b)\s*\d",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:probably|possibly|maybe|perhaps|might|may be|could be|i think|i guess|i believe|i suppose|not sure|unsure|"
    r"presumably|likely|seems|appears|uncertain|guess)\b|\?\s*$|大概|可能",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\b(?:about|around|approximately|approx|roughly|nearly|almost|circa|ca)\b|[~≈]|约", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not|isn't|never|neither|nor|except|other than)\b|n't\b|不是", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:can(?:no|')t|cannot|do not|don't) (?:help|see|view|read|"
    r"assist|answer|determine|access)|as an? (?:ai|assistant|language model)|unable to (?:view|see|determine|read))\b",
    re.IGNORECASE,
)
_NOTHING = {
    "n/a", "na", "unknown", "none", "not available", "not applicable", "cannot be determined", "can not be determined",
    "cannot determine", "undetermined", "unanswerable", "not enough information", "insufficient information",
    "no answer", "not visible", "unclear", "not sure", "i don't know", "i do not know", "null", "nan", "-", "?",
    "无法确定", "未知",
}  # fmt: skip
_LEAK = re.compile(
    r"\b(?:given|reference|standard|ground[- ]truth|provided|expected|gold|official|known)\s+(?:answer|solution|label|"
    r"response)\b|标准答案|参考答案",
    re.IGNORECASE,
)
_TAKES_BACK = re.compile(r"\b(?:instead|however|but|wait|actually|correction|rather|mistake|unless)\b", re.IGNORECASE)


def fault(said: str, accepted: Sequence[str], *, single: bool, about: bool) -> str:
    """Return why the words of a conclusion take it back, "" if they do not.

    Args:
        said: The conclusion.
        accepted: Known answers, whose own words are no fault.
        single: Bounds and ranges are faults too.
        about: Words such as "about" are none.
    """
    known = " ".join(accepted)
    if folded(said) in _NOTHING and folded(said) not in {folded(each) for each in accepted}:
        return "nothing is concluded"
    faults = [("alternatives", _OR), ("doubt", _DOUBT), ("a denial", _DENIAL)]
    if single:
        faults.append(("a bound or a range", _BOUND))
    if single and not about:
        faults.append(("an approximation", _ABOUT))
    return next((name for name, pattern in faults if pattern.search(said) and not pattern.search(known)), "")


def refuses(response: str, accepted: Sequence[str]) -> bool:
    """Return whether a response refuses to answer, unless the known answer does so itself."""
    return bool(_REFUSAL.search(response)) and not any(_REFUSAL.search(each) for each in accepted)


def leaks(reasoning: str) -> bool:
    """Return whether reasoning rests on an answer that was given to it."""
    return bool(_LEAK.search(reasoning))


def takes_back(behind: str) -> bool:
    """Return whether the words behind a conclusion take it back."""
    return bool(_TAKES_BACK.search(behind))
