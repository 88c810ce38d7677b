"""What a verifier is: a rule that says whether a conclusion agrees with a known answer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fcot.registry import Registry


@dataclass(frozen=True)
class Task:
    """A question with a known answer.

    Attributes:
        truth: The known answer; its items, for lists.
        also_accepted: Further answers.
        question: What was asked; "" if it is not known.
        options: Texts of the options A, B, …
    """

    truth: str | Sequence[str]
    also_accepted: Sequence[str] = ()
    question: str = ""
    options: Sequence[str] = ()

    @property
    def accepted(self) -> list[str | Sequence[str]]:
        """Return every answer that does."""
        return [self.truth, *self.also_accepted]


class Verifier(ABC):
    """Says whether a conclusion agrees with a known answer; pure functions of text.

    Attributes:
        whole: Whether the whole response is the conclusion, as of tables.
        single: Whether the conclusion is one value, so that bounds, ranges and further figures take it back.
    """

    whole: ClassVar[bool] = False
    single: ClassVar[bool] = False

    @abstractmethod
    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether what is said agrees with an answer."""

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether a known answer can verify anything."""
        return bool(truth) and (not isinstance(truth, str) or bool(truth.strip()))

    def same(self, one: str, other: str, task: Task) -> bool:
        """Return whether two conclusions of one response say the same."""
        return self.agrees(one, other, task)

    def accepts(self, said: str, task: Task) -> bool:
        """Return whether what is said agrees with any accepted answer."""
        return any(self.agrees(said, truth, task) for truth in task.accepted)


VERIFIERS: Registry[type[Verifier]] = Registry("verifier", base=Verifier)
