"""Plain answers in the tone of the teacher: the known answer is given, and nothing may be added to it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shards.factory.kinds.cot import judged, with_known_answer
from shards.factory.kinds.kind import ORIGINAL, Form, Judged, Kind, filled
from shards.factory.question import Known, Question
from shards.factory.requests import Response
from shards.factory.texts import added_facts
from shards.factory.verifiers.judge import Verdict

TEMPLATE = (
    "Below are a question about a picture and its correct answer. Write the answer again in the tone of the examples: "
    "the same facts, no figure and no name that does not stand in question or answer, and a last line 'Answer: ' with "
    "the answer alone.\n\nExamples of the tone:\n{examples}\n\nQuestion: {question}\nCorrect answer: {answer}"
)
_SHORT_FORM = re.compile(
    r"\b(?:single word|one word|word or phrase|single number|option'?s? letter|letter (?:of|from) the|yes or no)\b",
    re.I,
)
LONGEST = 3  # times the longest example


class Rewrite(Kind):
    """Rewritten answers; where none is accepted, the sample stays as it is.

    Questions that ask for a short form keep their answers: that is the form of the benchmarks. Answers that are whole
    pages, such as tables, keep theirs too.

    Args:
        verifiers: Short name of the verifier of each task.
        template: Text of the request, with `{examples}`, `{question}` and `{answer}`.
        samples: Tries a question.
        examples: The teacher's own answers, by task.
    """

    name = "rewrite"
    uses_images = False

    def __init__(
        self,
        verifiers: Mapping[str, str | None],
        template: str = TEMPLATE,
        samples: int = 1,
        examples: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(verifiers, template, samples)
        self.examples = {task: tuple(texts) for task, texts in (examples or {}).items()}

    def prompts(self, question: Question) -> list[Sequence[Mapping[str, str]]]:
        """Return one conversation of text a try; [] where the answer keeps its form."""
        known, shown = question.known, self.examples.get(question.known.task, ())
        if self.leaves_out(known.task) or not shown:
            return []
        if _SHORT_FORM.search(known.text) or self.verifier(known.task).whole:
            return []
        examples = "\n\n".join(shown)
        text = filled(self.template, examples=examples, question=known.text, answer=known.gold)
        return [[{"from": "human", "value": text}]] * self.samples

    def judge(self, known: Known, responses: Sequence[Response], form: Form, other: Known | None) -> list[Judged]:
        """Judge each response; facts that question and answer do not have are a fault."""
        verifier = self.verifier(known.task)
        found = []
        for response in responses:
            each = judged(response, verifier, known, Form(longest=self._longest(known.task)), other)
            added = added_facts(response.text, known.text, known.gold, "Answer")
            if each.verdict.accepted and added:
                each = replace(each, verdict=Verdict(False, "it adds facts", each.verdict.conclusion))
            found.append(each)
        return found

    def _longest(self, task: str) -> float:
        return LONGEST * max((len(text) for text in self.examples.get(task, ())), default=0)

    def choose(self, known: Known, texts: Sequence[str], judged: Sequence[Judged], chance: float) -> list[int]:
        """Return the first accepted response, or the sample as it is."""
        return [next((at for at, each in enumerate(judged) if each.verdict.accepted), ORIGINAL)]

    def answer(self, question: Question, response: Response) -> dict[str, Any]:
        """Return the rewritten answer, ending in the known one."""
        verifier = self.verifier(question.known.task)
        return {"answer": with_known_answer(response.text, verifier, question.known.truth)}

    def describe(self) -> dict[str, Any]:
        """Return what the choice depends on."""
        return {**super().describe(), "examples": {task: list(texts) for task, texts in self.examples.items()}}
