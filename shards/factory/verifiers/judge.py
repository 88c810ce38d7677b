"""Judge a response: form, conclusion, chain. All three must hold."""

import re
from dataclasses import dataclass

from shards.factory.verifiers import chain, wording
from shards.factory.verifiers.chart_number import ChartNumber
from shards.factory.verifiers.conclusion import Broken, bare, conclusions, without_thoughts
from shards.factory.verifiers.number import Number
from shards.factory.verifiers.option import Choice
from shards.factory.verifiers.quantity import plain, quantities, single
from shards.factory.verifiers.text import Text, folded
from shards.factory.verifiers.verifier import Task, Verifier
from shards.factory.verifiers.yes_no import YesNo, first_word

LONGEST = 50_000  # characters of a response
_COMMON = re.compile(
    r"\b(?:the|total|value|sum|result|answer|is|are|a|an|of|it|there|in|all|number|year)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Verdict:
    """What was decided of a response.

    Attributes:
        accepted: Whether it may be learned from.
        reason: The first rule it fails; "" if none.
        conclusion: What it concludes; "" if nothing was found.
    """

    accepted: bool
    reason: str = ""
    conclusion: str = ""


def judge(response: str, verifier: Verifier, task: Task, finish_reason: str = "stop") -> Verdict:
    """Decide whether a response may be learned from; a pure function of text, which never runs any of it.

    Args:
        response: The generated text.
        verifier: Compares its conclusion.
        task: The question and its known answer.
        finish_reason: As the server reports it.
    """
    accepted = [answer if isinstance(answer, str) else ", ".join(answer) for answer in task.accepted]
    if finish_reason != "stop":
        return Verdict(False, f"it ended by {finish_reason}")
    if not verifier.usable(task.truth):
        return Verdict(False, "the known answer verifies nothing")
    if not response.strip() or len(response) > LONGEST:
        return Verdict(False, "it is empty or endless")
    if wording.refuses(response, accepted):
        return Verdict(False, "a refusal")
    try:
        text = without_thoughts(response)
        if verifier.whole:
            agrees = verifier.accepts(text, task)
            return Verdict(agrees, "" if agrees else "another answer", text)
        found = conclusions(text)
    except Broken as error:
        return Verdict(False, str(error))
    if not found:
        return _bare(text, verifier, task, accepted)
    said = [bare(each.text) for each in found]
    if not all(said):
        return Verdict(False, "an empty conclusion")
    if any(not verifier.same(each, said[-1], task) and folded(each) != folded(said[-1]) for each in said[:-1]):
        return Verdict(False, "several conclusions", said[-1])
    reason = _concluded(said[-1], verifier, task, accepted)
    if not reason:
        reason = _behind(text[found[-1].end :], said[-1], verifier)
    if not reason:
        reason = _reasoned(response, text[: found[0].start], said[-1], verifier, task)
    return Verdict(not reason, reason, said[-1])


def _bare(text: str, verifier: Verifier, task: Task, accepted: list[str]) -> Verdict:
    """Judge a response without a marker: it may be nothing but the answer."""
    said = bare(text)
    if "\n" in said:
        return Verdict(False, "nothing is concluded")
    if isinstance(verifier, Number) and re.search(r"[A-Za-z]{2,}", _without_units(said)) and len(said.split()) > 3:
        return Verdict(False, "nothing is concluded")
    if not isinstance(verifier, Number) and len(said.split()) > 2 + max(len(each.split()) for each in accepted):
        return Verdict(False, "nothing is concluded")
    reason = _concluded(said, verifier, task, accepted)
    return Verdict(not reason, reason, said)


def _without_units(text: str) -> str:
    return _COMMON.sub("", text)


def _concluded(said: str, verifier: Verifier, task: Task, accepted: list[str]) -> str:
    """Return why a conclusion does not do, "" if it does."""
    about = isinstance(verifier, ChartNumber)
    if not isinstance(verifier, YesNo) and (
        reason := wording.fault(said, accepted, single=verifier.single, about=about)
    ):
        return reason
    if isinstance(verifier, YesNo) and (
        reason := wording.fault(said.split(",")[0], accepted, single=False, about=True)
    ):
        return reason
    if not verifier.accepts(said, task):
        return "another answer"
    return ""


def _behind(rest: str, said: str, verifier: Verifier) -> str:
    """Return why the text behind a conclusion takes it back, "" if it does not."""
    rest = rest.strip(" .*\n$")
    if not rest:
        return ""
    if wording.takes_back(rest):
        return "the conclusion is taken back"
    if isinstance(verifier, Number):
        concluded = single(said.rpartition("=")[2])
        others = [each.value for each in quantities(plain(rest))]
        if concluded is not None and any(value != concluded.value for value in others):
            return "another value stands behind the conclusion"
    return ""


def _reasoned(response: str, reasoning: str, said: str, verifier: Verifier, task: Task) -> str:
    """Return why the reasoning does not hold, "" if it may."""
    if wording.leaks(reasoning):
        return "it rests on a given answer"
    if chain.false_equation(response):
        return "a false equation"
    if isinstance(verifier, Number):
        quantity = single(said.rpartition("=")[2])
        return "" if quantity is None else chain.number_fault(reasoning, quantity, task.question)
    if isinstance(verifier, Choice):
        letters = verifier.letters(said, task)
        if letters is None:
            return ""
        text = " ".join(option for number, option in enumerate(task.options) if chr(ord("A") + number) in letters)
        return chain.option_fault(reasoning, letters) or chain.text_fault(reasoning, text, task.question)
    if isinstance(verifier, YesNo):
        return chain.yes_no_fault(reasoning, first_word(said) or "")
    if isinstance(verifier, Text):
        return chain.text_fault(reasoning, said, task.question)
    return ""
