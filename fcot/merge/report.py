"""The result of a merge, as written to `merge.json` in the merged folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fcot.errors import UserError
from fcot.merge.scores import PageScores
from fcot.statistics import Interval

NUMBERS = re.compile(r"\[[-+.\deE,\s]+\]")  # a list of numbers in indented JSON


@dataclass(frozen=True)
class Control:
    """One merge method's result.

    Attributes:
        utility: Its score on dev pages.
        weights: Its weights by player; None if it returned tensors.
        pages: Its scores of pages by task, in page order, if the utility gives them.
    """

    utility: float
    weights: dict[str, float] | None
    pages: PageScores | None = None


@dataclass(frozen=True)
class MergeReport:
    """The game, every method's result and the choice.

    Attributes:
        players: The snapshots' names, in training order.
        utilities: Each scored coalition's score, by its sorted members joined by "+"; "" is θ_base.
        shapley: Each player's Shapley value φ; they add up to v(N) - v(∅).
        standard_errors: The φ's standard errors if they were sampled, else None.
        controls: Every merge method's weights and score, by the method's name.
        chosen: The method whose weights the merged model has.
        choice: Why that one: see `fcot.merge.choice.Choice`.
        base: θ_base's path (None if it was in memory) and SHA-256.
        seed: Seed of the random draws.
        evaluations: How many different mixtures were scored, including those of a killed run.
        intervals: The 95 % intervals over redrawn pages of "shapley" and of the "weights" those give, by player, if all
            coalitions have scores of pages.
        pages: Each scored coalition's scores of pages by task, in page order, if the utility gives them.
        wall_seconds: Seconds this run took, not counting the writing of the model.
        options: Options that were given to methods, by their names.
        notes: What a reader should know, such as a fallback that was taken.
        extra: The caller's fields, such as the split, its size and the metric.
    """

    players: list[str]
    utilities: dict[str, float]
    shapley: dict[str, float]
    standard_errors: dict[str, float] | None
    controls: dict[str, Control]
    chosen: str
    choice: Mapping[str, Any]
    base: dict[str, str | None]
    seed: int
    evaluations: int
    wall_seconds: float
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    pages: Mapping[str, PageScores] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, float] | None:
        """The weights w of the chosen method, by player; None if it returned tensors."""
        return self.controls[self.chosen].weights

    def summary(self) -> str:
        """Return what was kept and why, and the Shapley values, in two lines."""
        intervals = self.intervals.get("shapley", {})
        values = ", ".join(
            f"{name} {value:+.4f}" + (f" [{each.low:+.4f}, {each.high:+.4f}]" if (each := intervals.get(name)) else "")
            for name, value in self.shapley.items()
        )
        said = f" with 95 % intervals (n = {next(iter(intervals.values())).n})" if intervals else ""
        return f"{self.choice['why']}.\n  Shapley values{said}: {values}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, including the caller's fields."""
        sampled = {} if self.standard_errors is None else {"standard_errors": self.standard_errors}
        return {
            "players": self.players,
            "utilities": self.utilities,
            "shapley": self.shapley,
            **sampled,
            "weights": self.weights,
            "controls": {
                name: {"utility": control.utility, "weights": control.weights}
                | ({} if control.pages is None else {"pages": control.pages})
                for name, control in self.controls.items()
            },
            **({"intervals": self._plain_intervals()} if self.intervals else {}),
            **({"pages": self.pages} if self.pages else {}),
            "chosen": self.chosen,
            "choice": self.choice,
            "base": self.base,
            "seed": self.seed,
            "evaluations": self.evaluations,
            "wall_seconds": self.wall_seconds,
            "options": self.options,
            "notes": self.notes,
            **self.extra,
        }

    def _plain_intervals(self) -> dict[str, Any]:
        return {kind: {name: asdict(each) for name, each in found.items()} for kind, found in self.intervals.items()}

    def to_json(self) -> str:
        """Return the text of `merge.json`, the scores of a task's pages on one line."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        return NUMBERS.sub(lambda found: "[" + ", ".join(found[0][1:-1].replace(",", " ").split()) + "]", text) + "\n"


def check_extra(extra: Mapping[str, Any], seed: int) -> None:
    """Check that the caller's fields are JSON and not the report's own (repeating an equal seed is fine).

    Raises:
        UserError: If a field takes one of the report's names, or cannot be written as JSON.
    """
    own = {each.name for each in fields(MergeReport)} | {"weights"}
    for name, value in extra.items():
        if name in own and not (name == "seed" and value == seed):
            raise UserError(f"'{name}' is a field of the report itself. Describe the merge under another name.")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"Field '{name}' cannot be written as JSON ({error}). Give text, numbers, lists or mappings."
            ) from None
