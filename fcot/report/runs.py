"""What a run folder holds: tested models with their answers, trainings with their settings."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fcot.errors import UserError
from fcot.evaluation.records import Evaluation, Record, read_records

LAYERS = re.compile(r"eval|lightning_logs|version_\d+")  # folders that say nothing about what is in them
NAME = re.compile(r"(?P<role>.*?)(?:-r(?P<ratio>\d+))?")
TEST = re.compile(r"test(?P<student>-r\d+)?\.json")
FIELDS = ("model", "ratio", "stage", "split", "n", "seed", "scores", "visual_tokens")

ROLES = {
    "teacher": "Teacher",
    "teacher-sft": "Teacher, post-trained",
    "start": "Pooled start",
    "realigned": "Re-aligned",
    "sft": "Post-trained",
    "merged": "Merged",
}


@dataclass(frozen=True)
class TestedModel:
    """A model that was tested.

    Attributes:
        name: Name of its folder, such as "merged-r2".
        row: Its row of scores, the content of `test.json`.
        records: Its answers in the order of their keys; none if there is no `test.jsonl`.
        folder: Where they are.
    """

    name: str
    row: dict[str, Any]
    records: list[Record]
    folder: Path

    @property
    def ratio(self) -> int:
        """How many visual tokens become one."""
        return int(self.row["ratio"])

    @property
    def role(self) -> str:
        """Its part in the comparison, one of `ROLES`, or the folder's name."""
        if self.name not in ROLES and self.ratio == 1 and self.row["stage"] == "teacher":
            return "teacher"
        return NAME.fullmatch(self.name)["role"]  # type: ignore[index]  # matches any name

    @property
    def label(self) -> str:
        """What a reader calls it, the ratio not said."""
        return ROLES.get(self.role, str(self.row["stage"]))

    @cached_property
    def by_task(self) -> dict[str, list[float]]:
        """The scores that count, of each task's samples in the order of their keys."""
        return Evaluation(metrics_of(self.row), self.records).by_task()

    def score(self, record: Record) -> float:
        """Return the score of one of its answers that counts."""
        return record.scores[metrics_of(self.row)[record.task][0]]


def metrics_of(row: dict[str, Any]) -> dict[str, tuple[str]]:
    """Return the metric that counts for each task."""
    return {task: (score["metric"],) for task, score in row["scores"].items() if task != "mean"}


def find_scored(run: Path) -> list[TestedModel]:
    """Read every `test.json` below a folder with its `test.jsonl`: teacher first, then by ratio and stage.

    A run that trained several students also leaves a `test-r4.json`, which becomes the row "NAME-r4". Of several tests
    in folders of one name (`version_0`, `version_1`) the newest counts.

    Raises:
        UserError: If there is none, or one cannot be read.
    """
    files = [path for path in run.rglob("test*.json") if TEST.fullmatch(path.name)]
    newest = {tested_name(path, run): path for path in by_age(files)}
    if not newest:
        raise UserError(
            f"There are no scores in {str(run)!r} (no test.json below it).\n"
            f"Test a model first: fcot test … --trainer.default_root_dir {run}/eval/NAME"
        )
    roles = list(ROLES)

    def order(scored: TestedModel) -> tuple[int, int, str]:
        return scored.ratio, roles.index(scored.role) if scored.role in roles else len(roles), scored.name

    return sorted((read_scored(name, path) for name, path in newest.items()), key=order)


def read_scored(name: str, path: Path) -> TestedModel:
    """Read one test.

    Raises:
        UserError: If a file is not what a test writes.
    """
    again = "Test the model again: fcot test …"
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        answers = path.with_suffix(".jsonl")
        records = sorted(read_records(answers), key=lambda record: record.key) if answers.is_file() else []
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} or its .jsonl is not what a test writes ({error}).\n{again}") from error
    absent = [field for field in FIELDS if not isinstance(row, dict) or field not in row]
    if absent:
        raise UserError(f"{path} has no field {absent[0]!r}, so it is not what a test writes.\n{again}")
    if records and len(records) != row["n"]:
        raise UserError(f"{path} counts {row['n']} pages, its .jsonl holds {len(records)} answers.\n{again}")
    return TestedModel(name, row, records, path.parent)


def tested_name(path: Path, run: Path) -> str:
    """Return what the model of a `test.json` is called: as its folder, a further student by its ratio."""
    name, student = name_of(path.parent, run), TEST.fullmatch(path.name)["student"]  # type: ignore[index]  # matches
    return f"{NAME.fullmatch(name)['role']}{student}" if student else name  # type: ignore[index]  # matches any name


def name_of(folder: Path, run: Path) -> str:
    """Return what a folder below a run is called: its path without layers such as `eval` and `version_0`."""
    parts = [part for part in folder.relative_to(run).parts if not LAYERS.fullmatch(part)]
    return "/".join(parts) or run.resolve().name


def by_age(paths: Iterable[Path]) -> list[Path]:
    """Return files, the newest last."""
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path))


def settings_of(folder: Path, pattern: str = "config*.yaml") -> dict[str, Any]:
    """Return the newest configuration in a folder or below it, {} if there is none that can be read."""
    for path in reversed(by_age(folder.rglob(pattern))):
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            continue
        if isinstance(settings, dict):
            return settings
    return {}


def setting(settings: dict[str, Any], part: str, name: str, default: Any = None) -> Any:
    """Return an argument of the model or the data, which may stand under `init_args`."""
    arguments = settings.get(part) or {}
    return {**arguments, **(arguments.get("init_args") or {})}.get(name, default)


def trainings(run: Path) -> dict[str, Path]:
    """Return the folders that a training left its configuration in, by name, in the order of time."""
    return {name_of(path.parent, run): path for path in by_age(run.rglob("config.yaml"))}
