"""How Lightning's Trainer writes and reads checkpoints."""

import shutil
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from fcot.errors import UserError
from fcot.runtime.checkpoints.folder import read_checkpoint, write_checkpoint


class FolderCheckpointIO(CheckpointIO):
    """Writes checkpoints as folders that appear whole, with a hash for each tensor, and checks them when reading.

    Lightning's own pickles, builds the whole file in memory and does not flush it to disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            UserError: If it cannot be written.
        """
        write_checkpoint(checkpoint, local(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint to the CPU: tensors and plain values only, whatever is asked.

        Raises:
            UserError: If there is none, or it is damaged.
        """
        return read_checkpoint(local(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        shutil.rmtree(local(path), ignore_errors=True)


def local(path: Any) -> Path:
    """Return a path of this machine.

    Raises:
        UserError: If it is of another place.
    """
    if "://" in str(path):
        raise UserError(f"{path} is not on this machine's disks.\nMount it, and give a folder.")
    return Path(path)
