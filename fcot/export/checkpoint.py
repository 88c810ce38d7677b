"""What `export` takes: a student's folder, the folder of a run, or a checkpoint file of one."""

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
        checkpoint: A model folder, a run folder or a checkpoint file.
        scratch: Folder to write a student to that exists as a checkpoint file only; gone afterwards.

    Raises:
        UserError: If it is none of these.
    """
    if checkpoint.is_file():
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
                "Train with the SaveStudent callback, or give a snapshot or a checkpoint file of it."
            )
        checkpoint = results[0]
    yield checkpoint, checkpoint


def restore(file: Path, folder: Path) -> None:
    """Write the student of a checkpoint file as a model folder; only tensors and plain values are read from it.

    Raises:
        UserError: If the file is of no run, or does not fit the run's model.
    """
    from fcot.module import PageModule
    from fcot.resume import DurableCheckpointIO
    from fcot.student import save_student
    from fcot.trainer_cli import make_cli

    run = run_of(file)
    if run is None:
        raise UserError(
            f"{file} lies in no run folder (no {RUN_FILE} above it), and a checkpoint holds only what was trained.\n"
            "Leave it in its run, or give a model folder."
        )
    settings = read_yaml(run / RUN_FILE)
    # nothing is trained, so the run's devices need not be here
    parts = {"trainer": {"accelerator": "cpu", "logger": False}, "model": settings["model"], "data": settings["data"]}
    module: PageModule = make_cli(parts, run=False, save_config_callback=None).model
    module.configure_model()
    checkpoint = DurableCheckpointIO().load_checkpoint(file)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=False)
    save_student(module.pair.student, folder, module.folder.path)
