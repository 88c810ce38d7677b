"""Find the student that `export` is given: as a model folder, a run folder, or a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fcot.errors import UserError
from fcot.export.origin import RUN_FILE

RESULTS = ("merged", "student")  # model folders of a run, the better one first


@contextmanager
def student_folder(
    checkpoint: Path, scratch: Path, restore: Callable[[Path, Path], None]
) -> Iterator[tuple[Path, Path]]:
    """Yield the student's model folder for the path a user gave, and the path from which to find its origin.

    Args:
        checkpoint: A model folder, a run folder or a checkpoint of a run.
        scratch: Folder for the temporary copy of a student restored from a checkpoint.
        restore: Writes the student of a checkpoint as a model folder.

    Raises:
        UserError: If a run folder has no student in it.
    """
    from fcot.runtime.checkpoints.folder import CHECKPOINT

    if checkpoint.is_file() or CHECKPOINT.is_at(checkpoint):
        scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=scratch, prefix=".export-") as folder:
            restore(checkpoint, Path(folder))
            yield Path(folder), checkpoint
        return
    if (checkpoint / RUN_FILE).is_file() and not (checkpoint / "config.json").is_file():
        results = [checkpoint / name for name in RESULTS if (checkpoint / name / "config.json").is_file()]
        if not results:
            raise UserError(
                f"The run {checkpoint} has neither {' nor '.join(RESULTS)} in it.\n"
                "Train with the SaveStudent callback, or give a snapshot or a checkpoint of it."
            )
        checkpoint = results[0]
    yield checkpoint, checkpoint
