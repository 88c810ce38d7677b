"""How a run was made, and what its figures do not show."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from fcot.report.markup import figure, table
from fcot.report.rows import provenance
from fcot.report.runs import setting, settings_of, trainings

RESAMPLES = 2000  # of every interval, the default of `fcot.metrics`


def making_section(run: Path, found: Mapping[str, Any]) -> str:
    """Return the section: commands, settings, what was measured how, versions."""
    rows = found["rows"]
    trained = trainings(run)
    lines = [training_line(name, path) for name, path in trained.items()]
    head = ["training", "command", "steps", "batch", "learning rate", "seed", "training pages"]
    settings = figure(table(head, lines, words=2), "The trainings, in the order of time.") if lines else ""
    tests = "".join(f"<li><code>{escape(str(row['name']))}</code>: {escape(str(row['model']))}</li>" for row in rows)
    environment = ", ".join(f"{name} {version}" for name, version in found["environment"].items())
    return (
        settings + "<p>Every model answers the same pages: "
        f"{escape(provenance(rows))} Intervals are percentiles of {RESAMPLES} resamplings of the pages within each task; "
        "tasks weigh the same in a mean. Ratios and differences draw both models' answers to a page together, so a page "
        "that is hard for both counts for neither. An answer with a written-out calculation is scored by its "
        "conclusion. The test pages come from documents and tables that are in no training page where the set was "
        "drawn by this project.</p>"
        f"<p>Tested models, by the folder each came from:</p><ul>{tests}</ul>"
        f"<p>This page again: <code>python -m fcot report {escape(str(run))}</code>, written with {escape(environment)}. "
        "The figures are also in report.json and table.md beside this page.</p>"
    )


def training_line(name: str, path: Path) -> list[str]:
    """Return a training's row: its command and the settings that matter most."""
    settings = settings_of(path.parent, path.name)
    trainer = settings.get("trainer") or {}
    optimizer = setting(settings, "model", "optimizer") or {}
    rate = (optimizer.get("init_args") or {}).get("lr", "default")
    pages = (setting(settings, "data", "recipe_samples") or {}).get("train", "–")
    recipe = setting(settings, "data", "recipe")
    cells = [
        escape(name),
        f"<code>python -m fcot fit --config {escape(str(path))}</code>",
        str(trainer.get("max_steps", "–")),
        str(setting(settings, "data", "batch_size", "–")),
        str(rate),
        str(settings.get("seed_everything", "–")),
        f"{pages} ({recipe})" if recipe else str(pages),
    ]
    return [*cells[:2], *map(escape, cells[2:])]


def limits_section() -> str:
    """Return the section: what the figures do not show."""
    return (
        "<p>These are scores of the models and pages named above and of nothing else. Where they are the tiny world's, a "
        "model of a few million parameters reads small drawn pages in a few fonts: that shows that the method works as "
        "described and what each step contributes there, not what a large model would keep on your documents. An "
        "interval covers the choice of test pages, not of seeds: another training run would differ by more than "
        "nothing. Time was measured once, on one machine, and is not a benchmark.</p>"
    )
