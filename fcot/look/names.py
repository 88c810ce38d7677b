"""Short names of models that tell them apart."""

from collections.abc import Sequence
from pathlib import Path

from fcot.errors import UserError


def names_of(models: Sequence[Path]) -> list[str]:
    """Return short names of model folders: as much of the end of each path as tells them apart.

    Raises:
        UserError: If one is given twice.
    """
    parts = [model.resolve().parts for model in models]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    twice = next(model for number, model in enumerate(models) if parts[number] in parts[:number])
    raise UserError(f"The model {twice} is given twice.\nGive each model once.")
