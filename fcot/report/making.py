"""How a run was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fcot.report.cells import Cell, Table
from fcot.report.runs import TestedModel, setting, settings_of, trainings

RESAMPLES = 2000  # of every interval, the default of `fcot.metrics`


def making_section(run: Path, found: Mapping[str, Any], scored: Sequence[TestedModel]) -> dict[str, Any]:
    """Return what the section shows: commands, settings, versions."""
    head = ["training", "command", "steps", "batch", "learning rate", "seed", "pages"]
    lines = [training_line(name, path) for name, path in trainings(run).items()]
    return {
        "trained": Table(head, lines, words=2),
        "tested": Table(["test", "model", "command"], [test_line(model) for model in scored], words=3),
        "resamples": RESAMPLES,
        "run": run,
        "environment": ", ".join(f"{name} {version}" for name, version in found["environment"].items()),
    }


def test_line(model: TestedModel) -> list[Cell]:
    """Return a test's row: its folder's name, the model and the command."""
    path = model.folder / "config_test.yaml"
    command = {"command": f"fcot test --config {path}"} if path.is_file() else None
    return [model.name, f"{model.row['model']}, {model.row['stage']}", command]


def training_line(name: str, path: Path) -> list[Cell]:
    """Return a training's row: its command and the settings that matter most."""
    settings = settings_of(path.parent, path.name)
    trainer = settings.get("trainer") or {}
    optimizer = setting(settings, "model", "optimizer") or {}
    rate = (optimizer.get("init_args") or {}).get("lr", "default")
    recipe = setting(settings, "data", "recipe")
    pages = (setting(settings, "data", "recipe_samples") or {}).get("train")
    values = (
        trainer.get("max_steps"),
        setting(settings, "data", "batch_size"),
        rate,
        settings.get("seed_everything"),
        f"{pages} {recipe}" if pages and recipe else None,
    )
    return [
        name,
        {"command": f"fcot fit --config {path}"},
        *(None if value is None else str(value) for value in values),
    ]
