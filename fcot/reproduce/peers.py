"""Every trained compressor on the tiny world: the KL to the teacher before and after the same steps of re-alignment."""

import csv
from pathlib import Path
from typing import Literal

from fcot.errors import UserError
from fcot.files.markdown import table
from fcot.reproduce.demo import CONFIGS
from fcot.reproduce.peers_costs import Cost, costs
from fcot.reproduce.runner import Command, Runner

PAGES = {"train": 4096, "dev": 192}
BATCH = 32  # pages in a step and in a dev batch, as the configuration has it
RATIOS = (2, 4)
TEACHER = Path("fcot/tiny/teacher")
GIGA = 1e9
Cell = tuple[str, str, int]  # name, placement and ratio


def peers(
    output: Path = Path("runs/peers"),
    steps: int = 60,
    only: str | None = None,
    data: Path = Path("data/reading60"),
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed",
) -> None:
    """Re-align a student by each trained compressor for a few steps, and write a table of what that gave.

    Each is trained at ratios 2 and 4, in every place where it may stand, on the same pages in the same order, with
    kept positions. The cost of a step is counted, and timed in turn for all. Every step is an ordinary command,
    printed before it runs, and is left out if its result is there: a run that was stopped goes on. About an hour on
    2 cores; run it from the folder that holds `configs/`.

    Args:
        output: Folder of the runs.
        steps: Steps of re-alignment, of 32 pages each.
        only: Names of compressors, separated by commas (default: all).
        data: Folder in which the pages are drawn, if they are not there.
        precision: Of training and measurement; 32-true suits processors without bf16 instructions, and takes longer.

    Raises:
        UserError: If a name is unknown, a command fails, or `configs/` is not here.
    """
    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    every = cells(only)
    work = {
        f"1/{ratio}": [
            each for cell in every if cell[2] == ratio for each in commands(cell, output, steps, data, precision)
        ]
        for ratio in RATIOS
    }
    sizes = [word for split, count in {**PAGES, "test": 0}.items() for word in (f"--{split}", str(count))]
    draw = ["shards", "build", "--output", str(data), "--recipe", "reading", *sizes]
    runner = Runner(1 + sum(map(len, work.values())))
    runner.run([Command("Draw the pages", draw, data / "dev" / "manifest.json")])
    runner.run_chains(work)
    text = table_of(every, costs(TEACHER, every), output, steps)
    (output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\nDone in {runner.clock()}.")


def cells(only: str | None = None) -> list[Cell]:
    """Return every compressor in each of its places at each ratio.

    Args:
        only: Names, separated by commas; None for all but the one that leaves tokens as they are.

    Raises:
        UserError: If there is no such compressor.
    """
    from fcot.compress import COMPRESSORS

    names = only.split(",") if only else [name for name in COMPRESSORS if name != "identity"]
    return [(name, place, ratio) for name in names for place in COMPRESSORS[name].places for ratio in RATIOS]


def folder_of(cell: Cell, output: Path) -> Path:
    """Return the folder of a run."""
    name, place, ratio = cell
    return output / f"{name}-{place}-r{ratio}"


def commands(cell: Cell, output: Path, steps: int, data: Path, precision: str) -> list[Command]:
    """Return what measures a student at its start, trains it, and measures it again."""
    (name, place, ratio), folder = cell, folder_of(cell, output)
    samples = ", ".join(f"{split}: {count}" for split, count in PAGES.items())
    options = ["--config", str(CONFIGS / "realign_tiny.yaml"), "--data.root", str(data)]
    options += ["--data.recipe_samples", f"{{{samples}}}", "--trainer.limit_val_batches", str(PAGES["dev"] // BATCH)]
    options += ["--model.compressor", name, "--model.placement", place, "--model.ratio", str(ratio)]
    options += ["--trainer.default_root_dir", str(folder), "--trainer.precision", precision]
    options += ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(folder), "--trainer.logger.name", ""]
    limits = ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps)]
    start, end = (["--trainer.logger.version", version] for version in ("start", "end"))
    what = f"{name} {place} the projector, ratio {ratio}"
    return [
        Command(f"Measure the start: {what}", ["validate", *options, *start], folder / "start" / "metrics.csv"),
        Command(f"Train: {what}", ["fit", *options, *limits, *end], folder / "student" / "config.json"),
    ]


def measured(file: Path) -> dict[str, float]:
    """Return the last row of dev metrics in a CSV file, by name."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("val/kl")]
    return {name: float(value) for name, value in rows[-1].items() if name.startswith("val/") and value}


def table_of(every: list[Cell], costs: list[Cost], output: Path, steps: int) -> str:
    """Return a Markdown table: what a step costs, KL before and after, agreement with the teacher after."""
    rows = []
    for cell, cost in zip(every, costs, strict=True):
        start, end = (measured(folder_of(cell, output) / when / "metrics.csv") for when in ("start", "end"))
        figures = (start["val/kl"], end["val/kl"], end["val/agreement"])
        spent = (f"{cost.parameters:,}", f"{cost.flops / GIGA:.1f}", f"{cost.seconds:.2f}")
        rows.append([*map(str, cell), *spent, *(f"{figure:.3f}" for figure in figures)])
    columns = ["compressor", "place", "ratio", "trainable", "GFLOP a step", "s a step"]
    heads = [*columns, "KL at the start", f"KL after {steps} steps", "agreement"]
    return table(heads, rows, [":--", ":--", *["--:"] * (len(heads) - 2)])
