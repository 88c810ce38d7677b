"""What `export` takes: a student's folder, the folder of a run, or a checkpoint of one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fcot.errors import UserError
from fcot.export.origin import RUN_FILE

RESULTS = ("merged", "student")  # what a run leaves, the better one first


@contextmanager
def student_folder(
    checkpoint: Path, scratch: Path, restore: Callable[[Path, Path], None]
) -> Iterator[tuple[Path, Path]]:
    """Give the student's model folder of what the user named, and the path that tells where it came from.

    Args:
        checkpoint: A model folder, a run folder or a checkpoint of a run.
        scratch: Folder to write a student to that exists as a checkpoint only; gone afterwards.
        restore: Writes the student of a checkpoint as a model folder.

    Raises:
        UserError: If it is none of these.
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
