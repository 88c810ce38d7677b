"""Runs the paper's experiments again."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcot.errors import UserError, nearest
from fcot.reproduce.demo import CONFIGS
from fcot.reproduce.paper.cost import costs
from fcot.reproduce.paper.preset import Preset, read_preset
from fcot.reproduce.paper.work import PARTS, Part, Work
from fcot.reproduce.resuming import held_folder, take_up
from fcot.reproduce.runner import Runner

MARKER = "paper.json"


def paper(
    output: Path = Path("runs/paper"), only: str | None = None, preset: Path = Path("configs/reproduce/tiny.yaml")
) -> None:
    """Run the paper's tables and figures again, and set what was found beside the paper's figures.

    Trains students at 1/2 and 1/4 of the visual tokens for each seed, students with other compression modules, and the
    control that the paper lacks (the teacher after the same post-training), scores them, merges, times, and writes
    RESULTS.md and results.html. Every step is an ordinary command, printed before it runs; a run that was stopped goes
    on where it was, and parts share their runs. Run it from the folder that holds `configs/`.

    Args:
        output: Folder of the runs and of the page.
        only: Parts with commas between them: table1 (students, rivals, control), table2 (re-alignment alone), table3
            (modules), table4 (merging), table5 (time), figure3 (change by task), figure4 (loss by module), figure5
            (tasks over steps), figure6 (where answers look). Default: all that the preset says how to make.
        preset: What is run; configs/reproduce/2b.yaml and 8b.yaml take real checkpoints and benchmarks, and print what
            they cost before they start.

    Raises:
        UserError: If a part or a key of the preset is unknown, a command fails, `configs/` is not here, or the output
            folder holds something else.
    """
    from fcot.reproduce.paper.page import write_page
    from fcot.reproduce.paper.results import Results

    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    chosen = read_preset(preset)
    parts = parts_of(only, chosen)
    work = Work(chosen, output)
    for line in costs(chosen, work, tuple(parts)):
        print(line)
    words = ("title", "about")  # of the page alone
    take_up(output, {name: value for name, value in asdict(chosen).items() if name not in words}, MARKER)
    with held_folder(output) as held:
        drawn, chains, alone = work.draw(), work.chains(parts), work.alone(parts)
        runner = Runner(len(drawn) + sum(map(len, chains.values())) + len(alone), (held,))
        if chains:
            runner.run(drawn)
        if chosen.side_by_side:
            runner.run_chains(chains)
        else:
            for commands in chains.values():
                runner.run(commands)
        runner.run(alone)
        write_page(output, chosen.title, Results(work).sections(parts), how(preset), chosen.about)
    print(f"\n{output / 'RESULTS.md'}\n{output / 'results.html'}\nDone in {runner.clock()}.")


def parts_of(only: str | None, preset: Preset) -> Sequence[Part]:
    """Return the parts that are asked for, in the paper's order.

    If none is named, they are all that the preset can make; what is left out is printed.

    Raises:
        UserError: If one is unknown, or the preset does not say how it is made.
    """
    if only is None:
        lacking = {part: key for part in PARTS if (key := preset.lacks(part))}
        for part, key in lacking.items():
            print(f"{part} is left out: the preset has no {key!r}.")
        return [part for part in PARTS if part not in lacking]
    asked = [name.strip() for name in only.split(",")]
    for name in asked:
        if name not in PARTS:
            raise UserError(f"--only has {name!r}.{nearest(name, PARTS)}")
        if key := preset.lacks(name):
            raise UserError(f"--only has {name!r}, and the preset has no {key!r}.\nAdd it, or leave {name} out.")
    return [part for part in PARTS if part in asked]


def how(preset: Path) -> dict[str, Any]:
    """Return how the results were made: command, code, machine."""
    from fcot.environment import environment

    return {"command": shlex.join(["fcot", *sys.argv[1:]]), "preset": str(preset), "commit": commit(), **environment()}


def commit() -> str:
    """Return the commit of the clone, with a note if files were changed since."""
    import subprocess

    here = Path(__file__).parent
    said = [
        subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    ]
    return (said[0] or "not a clone") + (", with changes" if said[1] else "")
