"""Options that reducers share are checked here, and budgets are turned into shares of tokens."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from fcot.errors import UserError


def check_share(name: str, value: float) -> float:
    """Return a share in (0, 1].

    Raises:
        UserError: If it is no number, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise UserError(
            f"{name} is {value!r}, and no share of the visual tokens.\nGive a number above 0 and up to 1, such as 0.5."
        )
    return float(value)


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Return a value that is one of the choices.

    Raises:
        UserError: If it is not.
    """
    if value not in choices:
        raise UserError(f"{name} is {value!r}, which is not known.\nGive {' or '.join(map(repr, choices))}.")
    return value


def check_count(name: str, value: int, least: int) -> int:
    """Return a whole number that is not too small.

    Raises:
        UserError: If it is.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} is {value!r}.\nGive a whole number of {least} or more.")
    return value


def check_stages(name: str, layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Return layers that rise, from 1 to the last.

    Raises:
        UserError: If they do not rise, or the language model has no such layer.
    """
    found = tuple(layers)
    if not found or not all(isinstance(layer, int) and 1 <= layer < num_layers for layer in found):
        raise UserError(
            f"{name} is {list(found)}, but this language model can be cut at the input of layers 1 to "
            f"{num_layers - 1} alone.\nGive layers in that range."
        )
    if any(later <= layer for layer, later in pairwise(found)):
        raise UserError(f"{name} is {list(found)}, and does not rise.\nGive each layer once, lowest first.")
    return found


def solve(mean: Callable[[float], float], target: float, first: int, num_layers: int) -> float:
    """Return the largest factor in (0, 1] whose mean over layers is not above the target.

    Args:
        mean: Rises with the factor.
        target: Share of visual tokens, mean over the inputs of all layers.
        first: First layer at whose input tokens are dropped.
        num_layers: Layers of the language model.

    Raises:
        UserError: If the layers before the first stage alone use up the budget.
    """
    if target <= first / num_layers:
        raise out_of_reach(target, first, num_layers)
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) <= target else (low, middle)
    return low


def share_of(count: int, share: float) -> int:
    """Return how many of some tokens a share is: rounded, halves to even, and never 0."""
    return max(1, round(count * share))


def out_of_reach(target: float, first: int, num_layers: int) -> UserError:
    """Return the error of a mean over layers that those before the first stage exceed; arguments as of `solve`."""
    return UserError(
        f"equivalent {target:g} is out of reach: nothing is dropped before layer {first} of {num_layers}, and these "
        f"alone make it {first / num_layers:.4g}.\nRaise equivalent, or let it act at earlier layers."
    )
