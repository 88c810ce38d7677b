"""Does merging pay, and at which learning rate? Every method on snapshots of two schedules on the tiny world."""

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

from fcot.errors import UserError, nearest
from fcot.reproduce.demo import CONFIGS
from fcot.reproduce.merging_plan import METHODS, Plan, Settings
from fcot.reproduce.resuming import held_folder, take_up
from fcot.reproduce.runner import Runner

MARKER = "merging.json"


def merging(
    output: Path = Path("runs/merging"),
    seeds: int = 3,
    steps: int = 240,
    start_steps: int = 100,
    snapshots: int = 5,
    after: float = 0.5,
    dev_pages: int = 140,
    test_pages: int = 420,
    methods: str | None = None,
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed",
    options: list[str] | None = None,
) -> None:
    """Merge snapshots of runs with a cosine and with a constant learning rate by every method, on the tiny world.

    All runs start from the same re-aligned student; for each seed, both schedules read the same pages in the same
    order. Candidates are found on one half of the dev pages and confirmed on the other, and what every method makes is
    tested, whatever is kept. Every step is an ordinary command, printed before it runs; a run that was stopped goes on
    where it was. About 50 minutes on 2 cores; run it from the folder that holds `configs/`.

    Args:
        output: Folder of the runs and their pages.
        seeds: Runs of each schedule; each seed has its own training and dev pages.
        steps: Steps of a run, of 32 pages each; it has half as many pages, and reads them twice.
        start_steps: Steps of the re-alignment that all runs start from.
        snapshots: Snapshots of a run.
        after: Share of a run's steps after which they are taken.
        dev_pages: Dev pages; half of them score coalitions.
        test_pages: Test pages.
        methods: Merge methods to test besides "auto" and the last snapshot, separated by commas (default: all).
        precision: Of training and tests; 32-true suits processors without bf16 instructions.
        options: Further options of every training and test, such as --options=--model.max_new_tokens=8.

    Raises:
        UserError: If a command fails, `configs/` is not here, or the output folder holds something else.
    """
    from fcot.reproduce.merging_results import write_results

    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    if min(seeds, steps, start_steps, dev_pages, test_pages) < 1 or snapshots < 2 or not 0 <= after < 1:
        raise UserError("A number of seeds, steps or pages is below 1, of snapshots below 2, or after is no share.")
    pages = (dev_pages, test_pages)
    chosen = METHODS if methods is None else tuple(methods.split(","))
    for method in chosen:
        if method not in METHODS:
            raise UserError(f"There is no merge method {method!r}.{nearest(method, METHODS)}")
    settings = Settings(seeds, steps, start_steps, snapshots, after, *pages, precision, chosen, tuple(options or ()))
    plan = Plan(settings, output)
    take_up(output, asdict(settings), MARKER)
    with held_folder(output) as held:
        before, work = plan.pages(), plan.runs()
        runner = Runner(sum(len(commands) for part in (before, work) for commands in part.values()), (held,))
        runner.run_chains(before)
        runner.run_chains(work, partial(tidy, plan))
        write_results(plan)
    print(f"\nDone in {runner.clock()}.")


def tidy(plan: Plan, name: str) -> None:
    """Remove the checkpoints of a run that has ended, and the models that were tested; their answers stay."""
    for folder in ("checkpoints", "each"):
        shutil.rmtree(plan.folder_of(name) / folder, ignore_errors=True)
