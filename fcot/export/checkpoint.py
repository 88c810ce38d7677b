"""What `export` takes: a student's folder, the folder of a run, or a checkpoint of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fcot.errors import UserError
from fcot.export.origin import RUN_FILE, read_yaml, run_of

RESULTS = ("merged", "student")  # what a run leaves, the better one first


@contextmanager
def student_folder(checkpoint: Path, scratch: Path) -> Iterator[tuple[Path, Path]]:
    """Give the student's model folder of what the user named, and the path that tells where it came from.

    Args:
        checkpoint: A model folder, a run folder or a checkpoint of a run.
        scratch: Folder to write a student to that exists as a checkpoint only; gone afterwards.

    Raises:
        UserError: If it is none of these.
    """
    from fcot.checkpoints.folder import CHECKPOINT

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


def restore(checkpoint: Path, folder: Path) -> None:
    """Write the student of a checkpoint as a model folder; only tensors and plain values are read from it.

    Raises:
        UserError: If the checkpoint is of no run, or does not fit the run's model.
    """
    from fcot.checkpoints.folder import read_checkpoint
    from fcot.module import PageModule
    from fcot.student import save_student
    from fcot.trainer_cli import make_cli

    run = run_of(checkpoint)
    if run is None:
        raise UserError(
            f"{checkpoint} lies in no run folder (no {RUN_FILE} above it); a checkpoint holds only what was trained.\n"
            "Leave it in its run, or give a model folder."
        )
    settings = read_yaml(run / RUN_FILE)
    # nothing is trained, so the run's devices need not be here
    parts = {"trainer": {"accelerator": "cpu", "logger": False}, "model": settings["model"], "data": settings["data"]}
    module: PageModule = make_cli(parts, run=False, save_config_callback=None).model
    module.configure_model()
    state = read_checkpoint(checkpoint)
    module.on_load_checkpoint(state)
    module.load_state_dict(state["state_dict"], strict=False)
    save_student(module.pair.student, folder, module.folder.path, max_tiles=module.max_tiles)
