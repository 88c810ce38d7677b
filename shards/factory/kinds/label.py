"""The teacher's own reading of pages: kept where it agrees with the known text, or with a second reading."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from rapidfuzz.distance import Levenshtein

from shards.factory.kinds.kind import Form, Judged, Kind
from shards.factory.question import Known, Question
from shards.factory.requests import Response, Sampling
from shards.factory.verifiers.judge import Verdict, judge
from shards.factory.verifiers.text import folded
from shards.factory.verifiers.verifier import Verifier

MOST_ERRORS = 0.02  # of the characters
LONGEST_GAP = 10  # characters in a row that one of two readings may lack
SECOND_LOOK = 0.7  # the side of the page in the second reading


class Label(Kind):
    """What a page says, read by the teacher and greedily.

    Args:
        verifiers: Short name of the verifier of each task; `text` allows 2 % of wrong characters here.
        template: Text of the request.
        known: Whether the set's answers are what the pages say; without, a second reading of a smaller picture decides.
    """

    name = "label"
    alone = False

    def __init__(self, verifiers: Mapping[str, str | None], template: str = "{question}", known: bool = True) -> None:
        super().__init__(verifiers, template, 1 if known else 2)
        self.known = known

    def sampling(self, given: Sampling, number: int) -> Sampling:
        """Return greedy sampling."""
        return replace(given, temperature=0.0)

    def images(self, question: Question, number: int) -> Sequence[tuple[str, bytes]]:
        """Return the pages, smaller in the second reading."""
        if number == 0:
            return question.images
        return [("png", smaller(data, f"{question.key}.{extension}")) for extension, data in question.images]

    def judge(self, known: Known, responses: Sequence[Response], form: Form, other: Known | None) -> list[Judged]:
        """Judge the first reading, by the known answer or by the second."""
        verifier = self.verifier(known.task)
        if any(each.refused for each in responses):
            return [Judged(Verdict(False, "the generator refused"))] * len(responses)
        if any(each.finish_reason != "stop" for each in responses):
            return [Judged(Verdict(False, "it ended by length"))] * len(responses)
        read = responses[0].text.strip()
        if not read:
            return [Judged(Verdict(False, "it is empty or endless"))] * len(responses)
        reason = self._fault(read, responses, verifier, known)
        chance = None if other is None or not self.known else alike(read, str(other.truth.truth))
        return [Judged(Verdict(not reason, reason, read), not reason, chance)] * len(responses)

    def _fault(self, read: str, responses: Sequence[Response], verifier: Verifier, known: Known) -> str:
        if not self.known:
            second = responses[1].text.strip()
            same = folded(read) == folded(second) if verifier.whole else alike(read, second)
            return "" if same else "a second reading is different"
        if verifier.whole:
            return judge(read, verifier, known.truth).reason
        return "" if any(alike(read, str(answer)) for answer in known.truth.accepted) else "another answer"

    def choose(self, known: Known, texts: Sequence[str], judged: Sequence[Judged], chance: float) -> list[int]:
        """Return the first reading if it was accepted."""
        return [0] if judged[0].verdict.accepted else []

    def answer(self, question: Question, response: Response) -> dict[str, Any]:
        """Return the reading; it is the reference too."""
        text = response.text.strip()
        return {"answer": text, "references": [text]}

    def describe(self) -> dict[str, Any]:
        """Return what the choice depends on."""
        return {**super().describe(), "known": self.known}


def alike(one: str, other: str) -> bool:
    """Return whether two texts differ in at most 2 % of their characters and neither lacks a passage of the other."""
    longest = max(len(one), len(other), 1)
    if Levenshtein.distance(one, other, score_cutoff=int(MOST_ERRORS * longest)) > MOST_ERRORS * longest:
        return False
    changes = Levenshtein.opcodes(one, other)
    return all(
        max(each.src_end - each.src_start, each.dest_end - each.dest_start) < LONGEST_GAP
        for each in changes
        if each.tag in ("insert", "delete")
    )


def smaller(data: bytes, name: str) -> bytes:
    """Return a picture at 0.7 of its size, as PNG.

    Raises:
        SampleError: If it cannot be decoded.
    """
    from fcot.internvl.decode import decode_image  # needs torch, which judging does without

    image = decode_image(data, name).convert("RGB")
    size = (max(1, round(image.width * SECOND_LOOK)), max(1, round(image.height * SECOND_LOOK)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
