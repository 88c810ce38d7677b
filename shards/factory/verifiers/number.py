"""Numbers, compared exactly."""

from collections.abc import Sequence
from fractions import Fraction

from shards.factory.verifiers.quantity import Quantity, single
from shards.factory.verifiers.verifier import Task, Verifier


class Number(Verifier):
    """A number equal to the known one: as a value, without tolerance."""

    single = True

    def agrees(self, said: str, truth: str | Sequence[str], task: Task) -> bool:
        """Return whether two numbers are equal and their units do not differ."""
        one, other = single(said.rpartition("=")[2]), single(str(truth))
        return one is not None and other is not None and self.equal(one, other, task)

    def usable(self, truth: str | Sequence[str]) -> bool:
        """Return whether the known answer is a number."""
        return isinstance(truth, str) and single(truth) is not None

    def equal(self, said: Quantity, truth: Quantity, task: Task) -> bool:
        """Return whether two quantities agree."""
        return same_kind(said, truth) and any(self.close(value, truth.value, task) for value in values(said, truth))

    def close(self, said: Fraction, truth: Fraction, task: Task) -> bool:
        """Return whether a value is the known one."""
        return said == truth


def same_kind(one: Quantity, other: Quantity) -> bool:
    """Return whether units and currencies do not differ where both sides have one."""
    if one.unit and other.unit and stem(one.unit) != stem(other.unit) and one.known == other.known:
        return False
    return not (one.currency and other.currency and one.currency != other.currency)


def stem(unit: str) -> str:
    """Return a unit without the s of a plural."""
    return unit.removesuffix("s") if len(unit) > 2 else unit


def values(said: Quantity, truth: Quantity) -> list[Fraction]:
    """Return what a value may mean beside the known one: where one side alone is a percentage, a hundredth too."""
    if said.percent == truth.percent:
        return [said.value]
    return [said.value, said.value / 100] if said.percent else [said.value, said.value * 100]
