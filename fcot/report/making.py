"""How a run was made, and what its figures do not show."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fcot.report.markup import figure, table
from fcot.report.rows import provenance
from fcot.report.runs import TestedModel, setting, settings_of, trainings

RESAMPLES = 2000  # of every interval, the default of `fcot.metrics`


def making_section(run: Path, found: Mapping[str, Any], scored: Sequence[TestedModel]) -> str:
    """Return the section: commands, settings, what was measured how, versions."""
    rows = found["rows"]
    lines = [training_line(name, path) for name, path in trainings(run).items()]
    head = ["training", "command", "steps", "batch", "learning rate", "seed", "pages"]
    trained = figure(table(head, lines, words=2), "The trainings, in the order of time.") if lines else ""
    tested = table(["test", "model", "command"], [test_line(model) for model in scored], words=3)
    environment = ", ".join(f"{name} {version}" for name, version in found["environment"].items())
    return (
        trained
        + figure(tested, "The tests.")
        + f"<p>Every model answers the same pages. {escape(provenance(rows))} Intervals are percentiles of {RESAMPLES} "
        "resamplings of the pages within each task; tasks weigh the same in a mean. Ratios and differences draw both "
        "models' answers to a page together. An answer with a written-out calculation is scored by its conclusion. "
        "Sets that this project draws have their test pages from documents and tables that no training page is "
        "from.</p>"
        f"<p>This page again: <code>fcot report {escape(str(run))}</code>. It was written with "
        f"{escape(environment)}. The figures are also in report.json and table.md beside this page.</p>"
    )


def test_line(model: TestedModel) -> list[str]:
    """Return a test's row: its folder's name, the model and the command."""
    path = model.folder / "config_test.yaml"
    command = f"<code>fcot test --config {escape(str(path))}</code>" if path.is_file() else "&ndash;"
    return [escape(model.name), escape(f"{model.row['model']}, {model.row['stage']}"), command]


def training_line(name: str, path: Path) -> list[str]:
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
        escape(name),
        f"<code>fcot fit --config {escape(str(path))}</code>",
        *(escape(str(value)) if value is not None else "&ndash;" for value in values),
    ]


def limits_section() -> str:
    """Return the section: what the figures do not show."""
    return (
        "<p>These are scores of the models and pages named above and of nothing else. Where they are the tiny world's, "
        "a model of a few million parameters reads small drawn pages in a few fonts. That shows that the method works "
        "as described and what each step contributes there; it does not show what a large model would keep on your "
        "documents. An interval covers the choice of test pages only: training again with another seed would shift "
        "the scores by an amount that is not measured here. Seconds are not shown: each model was "
        "tested in a process of its own, and times of different moments do not compare. FLOPs and cache are counted at "
        "the shapes of InternVL2, whichever models were tested.</p>"
    )
