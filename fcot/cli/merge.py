"""The verb `merge`: merge the snapshots of a finished or interrupted run again."""

from pathlib import Path
from typing import Any


def merge(
    run: Path,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    base: str | None = None,
    samples: int | None = None,
    permutations: int | None = None,
    output: Path | None = None,
    each: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Merge the snapshots of a post-training run by their Shapley values.

    Scores that an earlier, perhaps interrupted, merge of the same snapshots found are taken from its cache.

    Args:
        run: Folder of the run, with its config.yaml and snapshots.
        method: What to keep: auto (the last snapshot unless another is confirmed to be better), shapley, average,
            final, … (default: as the run's).
        options: Options of the method, such as '{density: 0.2}' (default: as the run's).
        base: The starting weights, to which weighted differences of snapshots are added: init (before the first
            step), final (the last snapshot), or a model folder (default: as the run's).
        samples: Dev pages to use (default: as the run's).
        permutations: Orders to sample the Shapley values from, which more than 8 snapshots need (default: as the
            run's).
        output: Where to write the merged model (default: merged in the run folder).
        each: Folder that gets what every method makes, too, in folders of their names.
        overwrite: Replace merged models that are already there.
    """
    from lightning.pytorch import Callback

    from callbacks.shapley_merge import ShapleyMerge
    from callbacks.snapshots import Snapshots
    from fcot.cli.train import from_config
    from fcot.errors import UserError
    from fcot.merge import check_method, check_readable

    if not (run / "config.yaml").is_file():
        raise UserError(f"There is no config.yaml in {str(run)!r}.\nGive the folder of a run of `fit` with Snapshots.")
    trainer, module, data = from_config(run / "config.yaml")
    used: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    snapshots = next((c for c in used if isinstance(c, Snapshots)), None)
    if snapshots is None:
        snapshots = Snapshots()
    else:
        snapshots.max_steps = trainer.max_steps
    snapshots.dirpath = str(Path(snapshots.dirpath) if snapshots.dirpath else run / "snapshots")
    merger = next((c for c in used if isinstance(c, ShapleyMerge)), ShapleyMerge())
    if options is not None or method not in (None, merger.method):
        merger.options = options or {}  # those of the run are of its own method
    merger.method, merger.base = method or merger.method, base or merger.base
    merger.samples, merger.folder, merger.each = samples or merger.samples, output or merger.folder, each or merger.each
    merger.permutations, merger.overwrite = permutations or merger.permutations, overwrite
    check_method(merger.method, merger.options, merger.permutations)
    players = len(snapshots.folders())
    if players < 2:
        raise UserError(
            f"{snapshots.dirpath} has {players} snapshots of this run, and a merge takes two.\n"
            "Train with the callback Snapshots and a count of 2 or more."
        )
    merger.check(merger.folder or run / "merged", players, "--overwrite true, or --output FOLDER")
    check_readable(snapshots.base_of(merger.base), snapshots.folders().values())
    data.prepare_data()
    module.trainer = trainer  # as in the run: its precision, and its first device
    module.configure_model()
    module.to(trainer.strategy.root_device)
    merger.merge(module, data, snapshots, run)
