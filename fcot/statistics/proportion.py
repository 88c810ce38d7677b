"""The exact interval of a share."""

from collections.abc import Callable
from math import exp, lgamma, log

from fcot.statistics.intervals import Interval

_STEPS = 60  # of the bisection; each halves what is left of 0 to 1


def proportion_interval(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Return a share with its exact interval (Clopper and Pearson), for independent cases.

    Args:
        hits: Cases of the kind.
        n: All cases, at least one.
        confidence: Of the interval.
    """
    rest = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _solved(lambda p: 1 - binomial_cdf(hits - 1, n, p) - rest)
    high = 1.0 if hits == n else _solved(lambda p: rest - binomial_cdf(hits, n, p))
    return Interval(hits / n, low, high, n)


def binomial_cdf(hits: int, n: int, p: float) -> float:
    """Return the probability of at most so many hits among n, each of probability p."""
    if p <= 0 or hits >= n:
        return 1.0
    if p >= 1:
        return 0.0
    whole = lgamma(n + 1)
    terms = (
        exp(whole - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p)) for k in range(hits + 1)
    )
    return min(1.0, sum(terms))


def _solved(rising: Callable[[float], float]) -> float:
    """Return where a rising function of 0 to 1 is zero."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
