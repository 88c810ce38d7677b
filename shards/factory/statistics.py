"""What a run came to, by task: acceptance, chance, solve rates, tokens, lengths, and how far to trust the verifiers."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcot.statistics import Interval, bootstrap_interval
from shards.factory.kinds.kind import Judged
from shards.factory.requests import Response
from shards.factory.texts import repetition
from shards.factory.verifiers.conclusion import Broken, conclusions, without_thoughts

QUANTILES = (0.05, 0.5, 0.95)
MANY = 20_000  # questions, above which the interval is the normal distribution's


@dataclass
class Tally:
    """Counts of one task."""

    verifier: str = ""
    rates: list[float] = field(default_factory=list)  # accepted share of each question's responses
    solved: Counter[int] = field(default_factory=Counter)  # right conclusions of a question
    options: list[float] = field(default_factory=list)  # chance of a guess, where the question has options
    chance: list[float] = field(default_factory=list)  # share of a question's conclusions that another answer accepts
    right: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    distinct: int = 0
    identical: int = 0  # questions of several responses, all the same text
    several: int = 0
    written: int = 0
    kept_as_they_are: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    lengths: list[int] = field(default_factory=list)  # of accepted texts
    gold: list[int] = field(default_factory=list)
    repeated: list[float] = field(default_factory=list)
    early: int = 0
    early_other: int = 0
    mutants: Counter[str] = field(default_factory=Counter)
    mutants_accepted: Counter[str] = field(default_factory=Counter)

    def add(self, gold: str, options: float | None, responses: Sequence[Response], judged: Sequence[Judged]) -> None:
        """Count a question."""
        good = [response.text for response, each in zip(responses, judged, strict=True) if each.verdict.accepted]
        self.rates.append(len(good) / len(judged))
        self.right.append(sum(each.right for each in judged) / len(judged))
        self.solved[sum(each.right for each in judged)] += 1
        known = [float(each.chance) for each in judged if each.chance is not None]
        if known:
            self.chance.append(sum(known) / len(known))
        if options is not None:
            self.options.append(options)
        self.reasons.update(each.verdict.reason for each in judged if not each.verdict.accepted)
        self.accepted += len(good)
        self.distinct += len(set(good))
        if len(responses) > 1:
            self.several += 1
            self.identical += len({response.text for response in responses}) == 1
        self.prompt_tokens += sum(each.prompt_tokens for each in responses)
        self.answer_tokens += sum(each.answer_tokens for each in responses)
        self.lengths += map(len, good)
        self.repeated += map(repetition, good)
        self.gold.append(len(gold))
        self.early += sum(each.early for each in judged if each.verdict.accepted)
        self.early_other += sum(each.early_other for each in judged if each.verdict.accepted)
        for each in judged:
            self.mutants.update(each.mutants)
            self.mutants_accepted.update(each.mutants_accepted)

    @property
    def guess(self) -> float:
        """How often a conclusion is accepted by chance: by its options, elsewhere by other questions' answers."""
        by_options = sum(self.options) / len(self.options) if self.options else 0.0
        by_others = sum(self.chance) / len(self.chance) if self.chance else 0.0
        return max(by_options, by_others)

    def report(self) -> dict[str, Any]:
        """Return the figures, in plain types."""
        questions, samples = len(self.rates), self.accepted + sum(self.reasons.values())
        tokens = self.prompt_tokens + self.answer_tokens
        right = sum(self.right) / len(self.right) if self.right else 0.0
        return {
            "verifier": self.verifier,
            "questions": questions,
            "responses": samples,
            "accepted": mean(self.rates),
            "right_conclusion": mean(self.right),
            "questions_with_an_accepted_response": mean([float(rate > 0) for rate in self.rates]),
            "solved": {str(count): number for count, number in sorted(self.solved.items())},
            "rejected": dict(self.reasons.most_common()),
            "chance": round(self.guess, 4),
            "lucky_share_of_right": round(lucky(right, self.guess), 4),
            "distinct_share_of_accepted": share(self.distinct, self.accepted),
            "questions_of_identical_responses": share(self.identical, self.several),
            "written": self.written,
            "kept_as_they_are": self.kept_as_they_are,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "tokens_an_accepted_response": round(tokens / self.accepted, 1) if self.accepted else None,
            "characters": quantiles(self.lengths),
            "characters_of_known_answers": quantiles(self.gold),
            "repetition": quantiles(self.repeated),
            "conclusion_in_first_tenth": share(self.early, self.accepted),
            "another_conclusion_in_first_tenth": share(self.early_other, self.accepted),
            "wrong_on_purpose": {name: [self.mutants_accepted[name], number] for name, number in self.mutants.items()},
            "wrong_on_purpose_accepted": share(sum(self.mutants_accepted.values()), sum(self.mutants.values())),
        }


class Statistics:
    """Counts of a run, by task."""

    def __init__(self) -> None:
        self.tasks: defaultdict[str, Tally] = defaultdict(Tally)
        self.skipped: Counter[str] = Counter()

    def report(self) -> dict[str, Any]:
        """Return all figures, in plain types; they depend on questions, responses and rules, not on time."""
        found: dict[str, Any] = {task: tally.report() for task, tally in sorted(self.tasks.items())}
        return {"tasks": found, **({"skipped": dict(sorted(self.skipped.items()))} if self.skipped else {})}


def lucky(right: float, chance: float) -> float:
    """Return the share of right conclusions that were guessed.

    If a share s is known and the rest is guessed, right = s + (1 - s) · chance, and the guessed share of the right
    ones is chance · (1 - s) / right.
    """
    if right <= 0 or chance >= 1:
        return 0.0
    known = max(0.0, (right - chance) / (1 - chance))
    return min(1.0, chance * (1 - known) / right)


def share(hits: int, of: int) -> float | None:
    """Return a share, None of nothing."""
    return round(hits / of, 4) if of else None


def mean(values: Sequence[float]) -> dict[str, float] | None:
    """Return a mean over questions and its 95 % interval, None of nothing."""
    if not values:
        return None
    if len(values) > MANY:
        middle, half = float(np.mean(values)), 1.96 * float(np.std(values)) / len(values) ** 0.5
        found = Interval(middle, middle - half, middle + half, len(values))
    else:
        found = bootstrap_interval(values)
    return {"mean": round(found.mean, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def quantiles(values: Sequence[float]) -> list[float] | None:
    """Return the 5th, 50th and 95th hundredths."""
    return [round(float(each), 3) for each in np.quantile(values, QUANTILES)] if values else None


def is_reasoned(text: str) -> bool:
    """Return whether a known answer is reasoned itself: something stands before its conclusion."""
    try:
        outside = without_thoughts(text)
        found = conclusions(outside)
    except Broken:
        return False
    return bool(found) and bool(outside[: found[0].start].strip())


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the figures that a reader looks at first, a line a task."""
    rows = [
        f"{'task':<14}{'questions':>10}{'accepted':>20}{'right':>7}{'chance':>8}{'distinct':>10}{'tokens':>9}{'written':>9}"
    ]
    for task, row in report["tasks"].items():
        rate = row["accepted"]
        accepted = f"{rate['mean']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]" if rate else "-"
        right = f"{row['right_conclusion']['mean']:.3f}" if row["right_conclusion"] else "-"
        distinct = "-" if row["distinct_share_of_accepted"] is None else f"{row['distinct_share_of_accepted']:.2f}"
        tokens = "-" if row["tokens_an_accepted_response"] is None else f"{row['tokens_an_accepted_response']:.0f}"
        rows.append(
            f"{task:<14}{row['questions']:>10}{accepted:>21}{right:>7}{row['chance']:>8.3f}{distinct:>10}{tokens:>9}"
            f"{row['written']:>9}"
        )
    return rows


def trust(report: Mapping[str, Any]) -> list[str]:
    """Return what the figures say about how far the verifiers can be trusted, a line each."""
    made = [each for row in report["tasks"].values() for each in row["wrong_on_purpose"].values()]
    accepted, number = (sum(each[at] for each in made) for at in (0, 1))
    most = max((row["lucky_share_of_right"] for row in report["tasks"].values()), default=0.0)
    return [
        f"Of {number} conclusions made wrong on purpose, the verifiers accept {accepted}.",
        f"Guessing explains at most {most:.1%} of the right conclusions of a task.",
    ]
