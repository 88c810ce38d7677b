"""What a kind of data is: which requests a question needs, what is accepted, and what is written."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fcot.errors import UserError
from shards.factory.question import Known, Question
from shards.factory.requests import Response, Sampling
from shards.factory.verifiers.judge import Verdict
from shards.factory.verifiers.verifier import VERIFIERS, Verifier

NONE = object()
ORIGINAL = -1  # in place of a response's number: the sample as it is in the set


@dataclass(frozen=True)
class Form:
    """What the known answers of a task look like, where they are reasoned themselves.

    Attributes:
        shortest: Characters of the first hundredth.
        longest: Characters of the last hundredth.
        repetition: `repetition` of the last hundredth.
    """

    shortest: float = 0.0
    longest: float = float("inf")
    repetition: float = 0.0


@dataclass(frozen=True)
class Judged:
    """What was found of a response.

    Attributes:
        verdict: Whether it may be learned from.
        right: Whether its conclusion agrees, whatever its form and its chain.
        chance: Whether the conclusion would agree with another question's answer; None if there is none.
        mutants: What was done to the conclusion to make it wrong.
        mutants_accepted: Those of them that the verifier accepts.
        early: Whether the reasoning states the conclusion in its first tenth.
        early_other: Whether it states another question's answer there.
    """

    verdict: Verdict
    right: bool = False
    chance: bool | None = None
    mutants: tuple[str, ...] = ()
    mutants_accepted: tuple[str, ...] = ()
    early: bool = False
    early_other: bool = False


class Kind(ABC):
    """A kind of data; picklable, as judging runs in other processes.

    Args:
        verifiers: Short name of the verifier of each task; "*" is that of all others; None leaves a task out.
        template: Text of the request, with `{question}` and what else the kind fills in.
        samples: Requests a question.

    Raises:
        UserError: If there is no such verifier, the template has no place for the question, or nothing is asked.
    """

    name: ClassVar[str]
    uses_images: ClassVar[bool] = True
    alone: ClassVar[bool] = True  # whether each response is judged without the others of its question

    def __init__(self, verifiers: Mapping[str, str | None], template: str, samples: int) -> None:
        self.verifiers = {task: VERIFIERS[name]() if name else None for task, name in verifiers.items()}
        self.verifier_names = dict(verifiers)
        self.template, self.samples = template, samples
        if "{question}" not in template:
            raise UserError(f"The template {template[:60]!r} has no {{question}}.\nPut it where the question stands.")
        if samples < 1:
            raise UserError(f"--samples is {samples}.\nGive at least 1.")

    def leaves_out(self, task: str) -> bool:
        """Return whether nothing is asked about a task, and none of its samples is written."""
        return self.verifiers.get(task, self.verifiers.get("*", NONE)) is None

    def verifier(self, task: str) -> Verifier:
        """Return the verifier of a task.

        Raises:
            UserError: If it has none.
        """
        found = self.verifiers.get(task, self.verifiers.get("*"))
        if found is None:
            raise UserError(
                f"The task {task!r} has no verifier, and which answers agree is not guessed.\n"
                f"""Name one, --verifiers '{{"{task}": "text"}}', of {", ".join(VERIFIERS)}; "*" is for all tasks."""
            )
        return found

    def asks(self, task: str) -> bool:
        """Return whether anything is asked about the questions of a task."""
        return not self.leaves_out(task)

    def prompts(self, question: Question) -> list[Sequence[Mapping[str, str]]]:
        """Return the conversation of each request about a question; [] asks nothing."""
        if not self.asks(question.known.task):
            return []
        *earlier, last = question.turns
        asked = filled(self.template, question=last["value"])
        return [[*earlier, {**last, "value": asked}]] * self.samples

    def sampling(self, given: Sampling, number: int) -> Sampling:
        """Return how request `number` of a question is drawn."""
        return given

    def images(self, question: Question, number: int) -> Sequence[tuple[str, bytes]]:
        """Return the pictures of request `number` of a question."""
        return question.images if self.uses_images else ()

    @abstractmethod
    def judge(self, known: Known, responses: Sequence[Response], form: Form, other: Known | None) -> list[Judged]:
        """Judge responses to a question; a pure function of text, run in a process that can be killed.

        Args:
            known: The question.
            responses: What came back, by request.
            form: What the task's known answers look like.
            other: Another question of the task, to see what is accepted by chance.
        """

    @abstractmethod
    def choose(self, known: Known, texts: Sequence[str], judged: Sequence[Judged], chance: float) -> list[int]:
        """Return which responses are written, by number; `ORIGINAL` is the sample as it is.

        Args:
            known: The question.
            texts: Text of each response.
            judged: What was found of each.
            chance: How often a conclusion of this task is accepted by chance.
        """

    @abstractmethod
    def answer(self, question: Question, response: Response) -> dict[str, Any]:
        """Return what of the record changes where a response is written: at least `answer`, the last turn's text."""

    def describe(self) -> dict[str, Any]:
        """Return what the choice depends on, for the manifest."""
        return {"kind": self.name, "verifiers": self.verifier_names, "samples_a_question": self.samples}


def filled(template: str, **values: str) -> str:
    """Return a template with its places filled; braces elsewhere stay."""
    places = re.compile("|".join(re.escape(f"{{{name}}}") for name in values))
    return places.sub(lambda place: values[place[0][1:-1]], template)  # at once: a value may hold braces too
