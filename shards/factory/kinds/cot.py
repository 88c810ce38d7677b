"""Chains of thought by rejection sampling: kept where form, conclusion and chain hold together."""

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

from fcot.errors import UserError
from shards.factory.kinds.kind import ORIGINAL, Form, Judged, Kind
from shards.factory.mutants import mutants
from shards.factory.question import Known, Question
from shards.factory.requests import Response
from shards.factory.texts import most_different, most_repeated_line, repetition
from shards.factory.verifiers.conclusion import Broken, bare, conclusions, without_thoughts
from shards.factory.verifiers.judge import Verdict, judge
from shards.factory.verifiers.verifier import Task, Verifier

TEMPLATE = (
    "{question}\n"
    "Think step by step. Read out of the picture what you need, one item a line as 'name: value', and write every "
    "calculation as an equation. End with one last line 'Answer: ' and the answer alone."
)
MARKER = "Answer: "
MOST_REPEATED = 0.5  # share of repeated runs of four words, where the known answers repeat less
LINES = 8  # times one line may stand in a chain
DANGLING = {"so", "thus", "therefore", "hence", "and", "then", "the", "my", "our"}  # before "answer is 7"


class Cot(Kind):
    """Chains of thought.

    Args:
        verifiers: Short name of the verifier of each task.
        template: Text of the request.
        samples: Chains drawn a question.
        most: Chains kept a question, the most different ones; one where all were right.
        mix: Share of chains where one is kept a question; beside several, the sample as it is stands once at most.
        level: A question is dropped where guessing would solve it as often with at least this probability; 1 keeps all.
    """

    name = "cot"

    def __init__(
        self,
        verifiers: Mapping[str, str | None],
        template: str = TEMPLATE,
        samples: int = 8,
        most: int = 2,
        mix: float = 0.5,
        level: float = 0.05,
    ) -> None:
        super().__init__(verifiers, template, samples)
        if most < 1:
            raise UserError(f"--most is {most}.\nGive at least 1.")
        if not 0 < mix <= 1:
            raise UserError(f"--mix is {mix}.\nGive the share of chains, above 0 and up to 1.")
        self.most, self.mix, self.level = most, mix, level

    def asks(self, task: str) -> bool:
        """Return whether a task's answers rest on reasoning: whole tables and the like are only read."""
        return super().asks(task) and not self.verifier(task).whole

    def judge(self, known: Known, responses: Sequence[Response], form: Form, other: Known | None) -> list[Judged]:
        """Judge each response by itself."""
        verifier = self.verifier(known.task)
        return [judged(each, verifier, known, form, other) for each in responses]

    def choose(self, known: Known, texts: Sequence[str], judged: Sequence[Judged], chance: float) -> list[int]:
        """Return the most different accepted chains, and the sample itself as often as the mix wants it."""
        solved = sum(each.right for each in judged)
        if tail(solved, len(judged), chance) > self.level:
            return []
        accepted = list({texts[at]: at for at in reversed(range(len(texts))) if judged[at].verdict.accepted}.values())
        accepted.sort()
        kept = most_different([texts[at] for at in accepted], 1 if solved == len(judged) else self.most)
        chosen = [accepted[at] for at in kept]
        plain = len(chosen) * (1 - self.mix) / self.mix
        drawn = (known.number * 2654435761 % 2**32) / 2**32  # spreads the numbers of samples over 0 to 1
        return chosen + [ORIGINAL] * (drawn < plain)

    def answer(self, question: Question, response: Response) -> dict[str, Any]:
        """Return the chain with one conclusion, written as the known answer is."""
        verifier = self.verifier(question.known.task)
        return {"answer": with_known_answer(response.text, verifier, question.known.truth)}

    def describe(self) -> dict[str, Any]:
        """Return what the choice depends on."""
        return {**super().describe(), "most_a_question": self.most, "mix": self.mix, "chance_level": self.level}


def judged(response: Response, verifier: Verifier, known: Known, form: Form, other: Known | None) -> Judged:
    """Judge a response, and see by the way what would be accepted by chance or by mistake."""
    if response.refused:
        return Judged(Verdict(False, "the generator refused"))
    verdict = judge(response.text, verifier, known.truth, response.finish_reason)
    if verdict.accepted and (fault := badly_formed(response.text, form)):
        verdict = Verdict(False, fault, verdict.conclusion)
    said = verdict.conclusion
    right = verdict.accepted or (bool(said) and verifier.accepts(said, known.truth))
    chance = None
    if other is not None and said:
        theirs = Task(other.truth.truth, other.truth.also_accepted, known.text, known.truth.options)
        chance = verifier.accepts(said, theirs)
    wrong = mutants(said, verifier) if verdict.accepted else {}
    beginning = response.text[: len(response.text) // 10].casefold()
    return Judged(
        verdict,
        right,
        chance,
        tuple(wrong),
        tuple(name for name, text in wrong.items() if verifier.accepts(text, known.truth)),
        len(said) > 1 and said.casefold() in beginning,
        other is not None and _said_of(other) in beginning,
    )


def _said_of(other: Known) -> str:
    said = str(other.truth.truth).casefold()
    return said if len(said) > 1 else "\0"


def badly_formed(text: str, form: Form) -> str:
    """Return why the form of an accepted response is not that of a chain, "" if it is."""
    if not reasoning_of(text):
        return "no reasoning"
    if not form.shortest <= len(text) <= form.longest:
        return "much shorter or longer than known answers"
    if repetition(text) > max(MOST_REPEATED, form.repetition) or most_repeated_line(text) > LINES:
        return "it repeats itself"
    return ""


def reasoning_of(text: str) -> str:
    """Return what stands before the conclusion; the thought, where nothing else does."""
    try:
        outside = without_thoughts(text)
        found = conclusions(outside)
    except Broken:
        return ""
    before = without_dangling(outside[: found[0].start]) if found else ""
    thought = text.partition("<think>")[2].partition("</think>")[0].strip()
    return before or thought


def without_dangling(text: str) -> str:
    """Return what stands before a marker without the beginning of its sentence, as "So the" of "So the answer is"."""
    while True:
        text = text.strip(" \t\n,;*_#")
        before, _, last = text.replace("\n", " ").rpartition(" ")
        if last.casefold().strip(",*_#") not in DANGLING:
            return text
        text = text[: len(before)]


def with_known_answer(text: str, verifier: Verifier, truth: Task) -> str:
    """Return a chain that ends in one conclusion, written as the accepted answer that it agrees with.

    Metrics take what follows "Answer: " for the conclusion, so there must be one, on the last line.
    """
    outside = without_thoughts(text)
    found = conclusions(outside)
    said = bare(found[-1].text if found else outside)  # behind a thought, the bare answer may stand
    agreeing = [answer for answer in truth.accepted if verifier.agrees(said, answer, truth)] or [truth.truth]
    known = agreeing[0] if isinstance(agreeing[0], str) else ", ".join(agreeing[0])
    return f"{reasoning_of(text)}\n{MARKER}{known}"


def tail(successes: int, tries: int, probability: float) -> float:
    """Return the probability of at least so many successes by chance."""
    return sum(comb(tries, k) * probability**k * (1 - probability) ** (tries - k) for k in range(successes, tries + 1))
