"""The score of an answer by the rule of its type, and the means over abilities."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fcot.errors import UserError
from fcot.evaluation.ocrbench_v2 import boxes, documents, short_text, spotting, tables, values
from fcot.evaluation.ocrbench_v2.crash import Crash
from fcot.evaluation.ocrbench_v2.long_text import long_text
from fcot.evaluation.ocrbench_v2.tree_distance import TooLarge
from fcot.evaluation.ocrbench_v2.types import CHINESE, ENGLISH, KINDS, language_of

SHORT_ANSWER = "简答"  # in a question for handwriting: a text, not characters
# Rules whose official script gives 0 where a row has no prediction; it stops at such a row under the other ones.
TAKE_NONE = {
    "box", "spotting", "vqa with position", "chart", "document", "table", "table cn", "formula cn", "long",
    "long, zero for blank",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a rule says of an answer.

    Attributes:
        score: From 0 to 1; of tables and documents it may be below.
        ignored: Left out of every mean.
        crashed: Why the official script stops at the row, which has 0 here; "" if it does not. Tables too large to be
            compared have 0 and say so here too.
    """

    score: float
    ignored: bool = False
    crashed: str = ""


def score(
    kind: str,
    question: str,
    prediction: Any,
    answers: Sequence[Any],
    *,
    eval: str | None = None,
    bbox: Any = None,
    content: Any = None,
) -> Result:
    """Score an answer.

    Args:
        kind: One of the thirty types.
        question: The question.
        prediction: The generated answer.
        answers: The accepted ones.
        eval: The row's own rule, such as "multiple choice".
        bbox: Its boxes.
        content: The texts in them.

    Raises:
        UserError: If there is no such type, or a package is missing.
    """
    if kind not in KINDS:
        raise UserError(f"OCRBench v2 has no type {kind!r}.\nFetch the benchmark again.")
    rule = KINDS[kind].rule
    answers = answers if isinstance(answers, list) or rule in ("vqa", "vqa cn") else [answers]
    try:
        if prediction is None:
            return Result(0.0, crashed="" if _takes_none(rule, answers, eval) else "no prediction")
        if rule == "translation" and not answers[0]:
            return Result(0.0, ignored=bool(prediction))
        return Result(_scored(rule, question, prediction, answers, eval, bbox, content))
    except UserError:
        raise
    except (Crash, TooLarge, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        return Result(0.0, crashed=str(error) or type(error).__name__)


def _scored(
    rule: str, question: str, said: Any, answers: Sequence[Any], kind: str | None, bbox: Any, content: Any
) -> float:
    rules = {
        "vqa": lambda: short_text.vqa(said, answers, kind),
        "vqa cn": lambda: short_text.vqa_chinese(said, answers, kind),
        "count": lambda: short_text.count(said, answers, kind),
        "formula": lambda: short_text.formula(said, answers),
        "formula cn": lambda: short_text.formula_chinese(said, answers),
        "handwriting": lambda: _handwriting(question, said, answers),
        "long": lambda: long_text(said, answers[0], zero_for_blank=False),
        "long, zero for blank": lambda: long_text(said, answers[0], zero_for_blank=True),
        "translation": lambda: long_text(said, answers[0], zero_for_blank=False),
        "table": lambda: tables.table(said, answers[0], question),
        "table cn": lambda: tables.table(said, answers[0], question, html=True),
        "chart": lambda: tables.chart(said, answers[0]),
        "document": lambda: documents.document(said, answers[0]),
        "values": lambda: values.key_information(said, answers[0]),
        "values cn": lambda: values.key_information_chinese(said, answers[0]),
        "vqa with position": lambda: boxes.answer_with_position(said, answers, bbox),
        "box": lambda: boxes.grounding(said, answers),
        "spotting": lambda: spotting.spotting(said, bbox, content),
    }
    return rules[rule]()


def _takes_none(rule: str, answers: Sequence[Any], kind: str | None) -> bool:
    """Return whether the official script gives 0 to a row without a prediction, and goes on."""
    if rule == "values":
        return values.takes_none(values.accepted_values(answers[0]))
    if rule == "values cn":
        return values.takes_none(values.accepted_values_chinese(answers[0]))
    return rule in TAKE_NONE or (rule == "vqa" and kind == "multiple choice")


def _handwriting(question: str, said: str, answers: Sequence[Any]) -> float:
    if SHORT_ANSWER not in question:
        return short_text.handwriting(said, answers)
    if not said and not answers[0]:
        raise Crash("neither a prediction nor an answer")
    return long_text(said, answers[0], zero_for_blank=True)


def abilities(scored: Iterable[tuple[str, float]], language: str) -> dict[str, tuple[float | None, int]]:
    """Return the mean score of each ability of a language over all of its rows, and their number.

    Args:
        scored: Type and score of each row that counts.
        language: "en" or "ch".

    Raises:
        UserError: If there is no such type.
    """
    names = ENGLISH if language == "en" else CHINESE
    found: dict[str, list[float]] = {name: [] for name in names}
    for kind, value in scored:
        if kind not in KINDS:
            raise UserError(f"OCRBench v2 has no type {kind!r}.\nFetch the benchmark again.")
        if language_of(kind) == language:
            found[KINDS[kind].ability].append(value)
    return {name: (sum(each) / len(each) if each else None, len(each)) for name, each in found.items()}


def overall(means: dict[str, tuple[float | None, int]]) -> float | None:
    """Return the mean of abilities that have rows, None if none has."""
    there = [mean for mean, _ in means.values() if mean is not None]
    return sum(there) / len(there) if there else None
