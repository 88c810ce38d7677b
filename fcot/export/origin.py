"""How a student was made: the runs that trained it, their settings, the merge, the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fcot.errors import UserError
from fcot.files.json_files import read_json

RUN_FILE, MERGE_FILE = "config.yaml", "merge.json"
WROTE = "Give a file that fcot wrote."
LEVELS = 3  # a snapshot lies two folders below its run


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        file: Its config.yaml.
        settings: Content of that file.
    """

    file: Path
    settings: Mapping[str, Any]

    @property
    def stage(self) -> str:
        """Name of the task in lower case: "realign" or "sft"."""
        return str(self._model.get("class_path", "run")).rpartition(".")[2].lower()

    @property
    def checkpoint(self) -> str:
        """The model folder that it started from; "" if not recorded."""
        return str(self.options.get("checkpoint", ""))

    @property
    def options(self) -> Mapping[str, Any]:
        """Arguments of its module."""
        found = self._model.get("init_args")
        return found if isinstance(found, dict) else {}

    @property
    def _model(self) -> Mapping[str, Any]:
        found = self.settings.get("model")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Origin:
    """What is known about how a student was made.

    Attributes:
        base: Name of the model that was compressed; None if it is not known.
        runs: The runs that trained it, in order.
        merge: The report of the merge; None if it was not merged.
        scores: Rows of `test.json` files, each of one split.
    """

    base: str | None
    runs: Sequence[Run]
    merge: Mapping[str, Any] | None
    scores: Sequence[Mapping[str, Any]]

    def files(self) -> dict[str, Run]:
        """Return the runs by the names of their configuration files in the exported folder."""
        return {f"training/{number}-{run.stage}.yaml": run for number, run in enumerate(self.runs, start=1)}


def origin_of(checkpoint: Path, *, base: str | None = None, scores: Sequence[Path] = ()) -> Origin:
    """Find out how a student was made.

    Args:
        checkpoint: Its folder or file; its runs are known only if it is in its run folder.
        base: Name of the model that was compressed (default: found from the runs).
        scores: `test.json` files of this student's test runs.

    Raises:
        UserError: If a file is invalid, or has the scores of another model.
    """
    runs = runs_behind(checkpoint)
    found = Path(runs[0].checkpoint).name if runs and runs[0].stage == "realign" else None
    merge = checkpoint / MERGE_FILE
    return Origin(
        base=base or found,
        runs=runs,
        merge=read_json(merge, WROTE) if merge.is_file() else None,
        scores=[read_scores(file, checkpoint) for file in scores],
    )


def run_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that wrote a model folder or checkpoint; None if there is none."""
    for folder in list(checkpoint.resolve().parents)[:LEVELS]:
        if (folder / RUN_FILE).is_file():
            return folder
    return None


def runs_behind(checkpoint: Path) -> list[Run]:
    """Return the runs that led to a checkpoint, in order: each started from the result of the one before."""
    runs: list[Run] = []
    folder = run_of(checkpoint)
    while folder is not None and all(run.file.parent != folder for run in runs):
        run = Run(folder / RUN_FILE, read_yaml(folder / RUN_FILE))
        runs.insert(0, run)
        start = Path(run.checkpoint)
        folder = run_of(start) if run.checkpoint and start.exists() else None
    return runs


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        UserError: If it is not a YAML mapping.
    """
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file} is not valid YAML ({error}).\nMend it or move it away.") from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings.\nMend it or move it away.")
    return settings


def read_scores(file: Path, checkpoint: Path) -> dict[str, Any]:
    """Read the `test.json` of a test run and, if the run recorded its model, check that it is this one.

    Raises:
        UserError: If it has no scores, or those of another model.
    """
    row = read_json(file, WROTE)
    if not isinstance(row.get("scores"), dict) or not {"split", "n", "seed"} <= set(row):
        raise UserError(f"{file} holds no scores.\nGive the test.json that `fcot test` wrote.")
    beside = file.with_name("config_test.yaml")
    if beside.is_file() and not was_tested(checkpoint, Run(beside, read_yaml(beside))):
        raise UserError(
            f"{file} has the scores of another model than {checkpoint}.\n"
            f"Test this one: fcot test --config … --model.checkpoint {checkpoint}"
        )
    return row


def was_tested(checkpoint: Path, test: Run) -> bool:
    """Return whether a test run tested this folder, or a Lightning checkpoint of its run."""
    restored = test.settings.get("ckpt_path")
    if not restored:
        return Path(test.checkpoint).resolve() == checkpoint.resolve()
    trainer = test.settings.get("trainer")
    root = Path(str(trainer.get("default_root_dir", ""))) if isinstance(trainer, dict) else Path()
    folder = run_of(Path(restored)) if Path(restored).exists() else root.resolve()
    return folder == run_of(checkpoint)
