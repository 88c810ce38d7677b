"""Does drawing tasks by their loss help? Two rules, uniform drawing and a placebo on the tiny world."""

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

from fcot.errors import UserError
from fcot.reproduce.demo import CONFIGS
from fcot.reproduce.resuming import held_folder, take_up
from fcot.reproduce.runner import Command, Runner
from fcot.reproduce.sampling_plan import Plan, Settings

MARKER = "sampling.json"


def sampling(
    output: Path = Path("runs/sampling"),
    seeds: int = 3,
    steps: int = 240,
    coarse_steps: int = 60,
    start_steps: int = 100,
    coarse_share: float = 0.1,
    dev_pages: int = 420,
    test_pages: int = 420,
    dev_tokens: Literal["answer", "conclusion"] = "answer",
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed",
    options: list[str] | None = None,
) -> None:
    """Compare drawing tasks by their loss with uniform drawing, and with a placebo, on the tiny world.

    For each seed, a coarse run on a part of the training pages gives weights by the paper's rule (L) and by excess over
    the teacher (E); they are frozen. Then four runs from the same start, on the same pages, as long as each other: U
    uniform, L, E, and P, which deals E's weights to tasks at random. All are tested on the same pages. Every step is an
    ordinary command, printed before it runs; a run that was stopped goes on where it was. About 45 minutes on 2 cores;
    run it from the folder that holds `configs/`.

    Args:
        output: Folder of the runs and their pages.
        seeds: Runs of each arm; each seed has its own training pages, order and placebo.
        steps: Steps of a run, of 32 pages each; it has half as many pages, and reads them twice in the mean.
        coarse_steps: Steps of a coarse run.
        start_steps: Steps of the re-alignment that all runs start from.
        coarse_share: Share of the training pages that a coarse run reads.
        dev_pages: Dev pages that losses are measured on.
        test_pages: Test pages.
        dev_tokens: Whose loss excess compares: answer, all of its tokens, or conclusion, what follows "Answer:" in a
            chain of thought.
        precision: Of training and tests; 32-true suits processors without bf16 instructions.
        options: Further options of every training and test, such as --options=--model.max_new_tokens=8.

    Raises:
        UserError: If a command fails, `configs/` is not here, or the output folder holds something else.
    """
    from fcot.reproduce.sampling_results import write_results

    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    if min(seeds, steps, coarse_steps, start_steps, dev_pages, test_pages) < 1 or not 0 < coarse_share <= 1:
        raise UserError("A number of seeds, steps or pages is below 1, or coarse_share is not above 0 and at most 1.")
    pages = (coarse_share, dev_pages, test_pages)
    settings = Settings(seeds, steps, coarse_steps, start_steps, *pages, dev_tokens, precision, tuple(options or ()))
    plan = Plan(settings, output)
    take_up(output, asdict(settings), MARKER)
    with held_folder(output) as held:
        parts = [plan.pages(), plan.coarse(), plan.fine()]
        runner = Runner(sum(len(commands) for work in parts for commands in work.values()), (held,))
        runner.run_chains(parts[0])
        runner.run_chains(parts[1])
        plan.freeze_weights()
        runner.run_chains(parts[2], partial(finish, plan, parts[2]))
        write_results(plan)
    print(f"\nDone in {runner.clock()}.")


def finish(plan: Plan, work: dict[str, list[Command]], name: str) -> None:
    """Write the result of a run, and remove its checkpoints."""
    from fcot.reproduce.sampling_results import write_run

    arm, seed = name[0], int(name[1:])
    write_run(plan, arm, seed, work[name])
    shutil.rmtree(plan.run_folder(arm, seed) / "checkpoints", ignore_errors=True)
