"""What identifies a position in the data: the set, the seed and the order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcot.errors import UserError


def check_unchanged(state: Mapping[str, Any], identity: Mapping[str, Any], source: Path) -> None:
    """Check that the data of a checkpoint are those of this run.

    Args:
        state: Of the data, in the checkpoint.
        identity: Of this run's data: the hash of its "set", the "seed", the hash of its "order", and how a "pair" is
            read, if it is.
        source: Folder of the set.

    Raises:
        UserError: If one differs: the same position would then mean that other samples had been read.
    """
    changed = {
        "set": f"{source} has other samples or another index",
        "seed": f"data.seed is {identity['seed']} and was {state.get('seed')}",
        "pair": f"data.pair is {identity.get('pair')} and was {state.get('pair')}",
        "order": "one of data.weights, data.repeat_time, data.ordered, model.max_tiles, or the tile size or the "
        "tokenizer of the model's checkpoint differs",
    }
    for name, own in identity.items():
        if state.get(name, own) != own:
            raise UserError(
                f"The training samples or their order have changed since this checkpoint: {changed[name]}.\n"
                "Restore the data and the settings of the run's config.yaml, or start a new run from its weights."
            )
