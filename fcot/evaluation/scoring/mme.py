"""MME's rules: yes or no, and the sums over categories (Fu et al., arXiv 2306.13394)."""

import re
from collections.abc import Mapping, Sequence

from fcot.metrics.yes_no import yes_or_no

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_CHINESE = re.compile("[\u4e00-\u9fa5]")


def internvl_answer(answer: str) -> str:
    """Return what InternVL writes into the file that is scored: Chinese and true or false as yes or no."""
    text = answer.replace("\n", "").replace("不是", "No").replace("是", "Yes").replace("否", "No")
    return _CHINESE.sub("", text.lower().replace("true", "yes").replace("false", "no"))


def harness_yes_no(answer: str) -> str:
    """Return "yes", "no" or "other" as lmms-eval does: without white space around and full stops, "y" and "n" too."""
    text = answer.lower().strip().replace(".", "")
    return {"y": "yes", "n": "no"}.get(text, "other") if len(text) == 1 else yes_or_no(text)


def pair_score(right: Sequence[bool]) -> float:
    """Return accuracy and accuracy+ of a picture's questions, added: from 0 to 2."""
    return sum(right) / len(right) + float(all(right))


def category_scores(pairs: Mapping[str, Mapping[str, Sequence[bool]]]) -> dict[str, float]:
    """Return the score of each category, at most 200.

    Args:
        pairs: By category and picture, which of its two questions were answered right.
    """
    return {
        category: 100 * sum(map(pair_score, pictures.values())) / len(pictures) for category, pictures in pairs.items()
    }
