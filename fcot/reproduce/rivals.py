"""The rivals on the tiny world: training-free reducers of the teacher beside trained students, in one table."""

from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.reproduce.demo import CONFIGS, TEACHER, Preset, chains, draw
from fcot.reproduce.resuming import take_up
from fcot.reproduce.runner import Command, Runner

PRESET = Preset({4: 900, 2: 450}, 160, 5120, 14400, 140, 420, "data/rivals")
SHARES = {0.5: 2, 0.25: 4}  # of the visual tokens that are left, and the ratio of the student that has as many
EARLY = {"layer": 1}  # of six layers: the papers' second of 24 or more would be a third
MARKER = "rivals.json"


@dataclass(frozen=True)
class Cell:
    """A reducer with its options, to be tested on the teacher.

    Attributes:
        name: Short name of the reducer.
        options: Of the reducer.
        budget: What the share is of: "keep" of the last layer, "equivalent" of the mean over layers.
        share: Of the visual tokens.
    """

    name: str
    options: dict[str, Any]
    budget: str
    share: float

    @property
    def label(self) -> str:
        """What a table calls it."""
        said = [self.options[each] for each in ("score", "positions") if each in self.options]
        return " ".join([self.name, *said])

    @property
    def folder(self) -> str:
        """Name of the folder of its scores."""
        return f"{self.label.replace(' ', '-')}-{self.budget}-{self.share}"

    def words(self) -> list[str]:
        """Return the options of a command line."""
        given = {**self.options, self.budget: self.share}
        return [
            "--reduce",
            self.name,
            *(word for name, value in given.items() for word in (f"--reduce.{name}", str(value))),
        ]


def cells() -> tuple[list[Cell], list[str]]:
    """Return every reducer at each share of each of its budgets, and what is out of reach in so small a model."""
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.reduce import REDUCERS, BeforeReducer, InsideReducer

    layers = ModelFolder(Path(TEACHER)).config.text_config.num_hidden_layers
    found, missing = [], []
    for name, kind in REDUCERS.items():
        options = REDUCERS.options(name)
        scores = [{"score": each} for each in kind.scores] if "score" in options else [{}]
        # published before the language model: counted anew; students of this world keep theirs
        numbered = [{}, {"positions": "original"}] if issubclass(kind, BeforeReducer) else [{}]
        for score, positions in product(scores, numbered):
            fixed = {**(EARLY if "layer" in options else {}), **score, **positions}
            for budget in (each for each in ("keep", "equivalent") if each in options):
                for share in SHARES:
                    cell = Cell(name, fixed, budget, share)
                    try:
                        made = kind(**fixed, **{budget: share})
                        if isinstance(made, InsideReducer):
                            made.check(layers)
                    except UserError as error:
                        missing.append(f"{cell.label} at {budget} {share}: {str(error).splitlines()[0]}")
                    else:
                        found.append(cell)
    return found, missing


def work_of(preset: Preset, output: Path) -> dict[str, list[Command]]:
    """Return what is run on the pages: students trained and measured, and the teacher with each reducer."""
    work = chains(preset, output)
    for commands in work.values():
        for number, command in enumerate(commands):
            if command.words[0] == "fit":  # one that was stopped goes on
                commands[number] = command._replace(words=[*command.words, "--ckpt_path", "last"])
    questions = preset.data_options("questions")

    def measure(cell: Cell) -> Command:
        folder = output / "eval" / cell.folder
        words = ["test", "--config", str(CONFIGS / "sft_tiny.yaml"), "--model.checkpoint", TEACHER]
        words += ["--model.label", cell.label, *cell.words(), "--trainer.default_root_dir", str(folder), *questions]
        return Command(f"Measure: teacher with {cell.label}, {cell.budget} {cell.share}", words, folder / "test.json")

    found = [measure(cell) for cell in cells()[0]]
    # two chains of them: the longest training takes about as long as all of them on one core
    return work | {"teacher a": found[0::2], "teacher b": found[1::2]}


def bench_of(output: Path) -> list[Command]:
    """Return what times students and reducers at a larger size, beside the plain model."""
    from fcot.reduce import REDUCERS, FewerTiles

    names = ",".join(name for name, kind in REDUCERS.items() if not issubclass(kind, FewerTiles))
    given = "--model 100m --batch 1 --questions 1 --new_tokens 9 --device cpu --repeats 3"
    commands = []
    for share, ratio in SHARES.items():
        file = output / f"bench-{share}.json"
        words = ["bench", "infer", *given.split(), "--ratios", f"1,{ratio}"]
        words += ["--reduce", names, "--reduce.keep", str(share), "--json", str(file)]
        commands.append(Command(f"Time reading a page with {share} of its visual tokens left", words, file))
    return commands


def rivals(output: Path = Path("runs/rivals"), seed: int = 0) -> None:
    """Measure training-free reducers (FastV and others) on the tiny teacher beside students trained for it.

    Draws pages, trains students at 1/2 and 1/4 of the visual tokens, tests the teacher with every reducer at 50 % and
    25 %, and writes a table and a picture. Every step is an ordinary command, printed before it runs. A run that was
    stopped goes on where it was. About an hour on 2 cores; run it from the folder that holds `configs/`.

    Args:
        output: Folder of the runs.
        seed: Seed of pages, their order and training.

    Raises:
        UserError: If a command fails, `configs/` is not here, or the output folder holds something else.
    """
    from fcot.reproduce.rivals_table import write_table

    if not CONFIGS.is_dir():
        raise UserError("There is no folder configs here. Run this from the folder of the project's clone.")
    preset = replace(PRESET, seed=seed, data=f"{PRESET.data}-seed{seed}") if seed else PRESET
    take_up(output, asdict(preset), MARKER)
    drawn = [each._replace(made=Path(each.words[3]) / "dev" / "manifest.json") for each in draw(preset)]
    work, bench = work_of(preset, output), bench_of(output)
    runner = Runner(len(drawn) + sum(map(len, work.values())) + len(bench))
    runner.run(drawn)
    runner.run_chains(work)
    runner.run(bench)
    write_table(output, cells()[1])
    print(f"\nDone in {runner.clock()}.")
