"""The verb `export`."""

from pathlib import Path


def export(
    checkpoint: Path,
    output: Path,
    base: str | None = None,
    scores: list[Path] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a student as a folder that transformers loads, with fcot and without it.

    With fcot (`import fcot.student`) no code of the folder is run; without it `trust_remote_code=True` runs the one
    file of code that is written into it. The folder appears whole or not at all.

    Args:
        checkpoint: A student's folder, a run's folder (its merged model, or else its student), or a checkpoint.
        output: Where to write.
        base: Name of the model that was compressed, for the model card (default: as the run's configuration says).
        scores: Files test.json of test runs of this student, for the model card; may be given several times.
        overwrite: Replace an exported model that is already there.
    """
    from fcot.errors import UserError
    from fcot.export.checkpoint import student_folder
    from fcot.export.folder import EXPORTED, write_export
    from fcot.export.origin import origin_of
    from fcot.files.atomic_folder import prepare_output, whole_folder
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.models.weight_checks import require_parts

    with student_folder(checkpoint, output.parent, restore) as (folder, known_as):
        source = ModelFolder(folder)
        if source.config.model_type != "fcot_internvl":
            raise UserError(
                f"{folder} is a native InternVL, which transformers loads as it is.\n"
                "Export takes a student that was re-aligned from it."
            )
        require_parts(source)
        origin = origin_of(known_as, base=base, scores=scores or [])
        prepare_output(output, EXPORTED, overwrite=overwrite, advice="Add --overwrite true, or name another folder.")
        with whole_folder(output, EXPORTED) as temporary:
            write_export(source, temporary, origin, output.name)
    print(f"Exported {known_as} to {output}: {source.config.image_seq_length} visual tokens a tile.")
    unknown = [what for what, found in (("base", origin.base), ("scores", origin.scores)) if not found]
    if unknown:
        print(f"The model card lacks {' and '.join(unknown)}; give --{' and --'.join(unknown)}.")


def restore(checkpoint: Path, folder: Path) -> None:
    """Write the student of a checkpoint as a model folder; only tensors and plain values are read from it.

    Raises:
        UserError: If the checkpoint is of no run, or does not fit the run's model.
    """
    from fcot.cli.train import make_cli
    from fcot.errors import UserError
    from fcot.export.origin import RUN_FILE, read_yaml, run_of
    from fcot.models.student_folder import save_student
    from fcot.runtime.checkpoints.folder import read_checkpoint
    from fcot.training.base_task import BaseTask

    run = run_of(checkpoint)
    if run is None:
        raise UserError(
            f"{checkpoint} lies in no run folder (no {RUN_FILE} above it); a checkpoint holds only what was trained.\n"
            "Leave it in its run, or give a model folder."
        )
    settings = read_yaml(run / RUN_FILE)
    # nothing is trained, so the run's devices need not be here
    parts = {"trainer": {"accelerator": "cpu", "logger": False}, "model": settings["model"], "data": settings["data"]}
    module: BaseTask = make_cli(parts, run=False, save_config_callback=None).model
    module.configure_model()
    state = read_checkpoint(checkpoint)
    module.on_load_checkpoint(state)
    module.load_state_dict(state["state_dict"], strict=False)
    save_student(module.pair.student, folder, module.folder.path, max_tiles=module.max_tiles)
