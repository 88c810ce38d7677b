"""What `bench device` measures, in order of worth."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

SIZES = ("full", "tiny")
ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "fcot" / "tiny" / "teacher")


@dataclass(frozen=True)
class Cell:
    """One measurement, made by a command in a process of its own.

    Attributes:
        name: Its name in the results.
        words: What follows `fcot` on the command line; beginning with "pytest", what follows `python -m`.
        seconds: Most seconds that it may take.
        accelerator: Whether it needs one.
    """

    name: str
    words: tuple[str, ...]
    seconds: float
    accelerator: bool = False

    @property
    def command(self) -> str:
        """Its command as a user types it in a clone."""
        program = "python -m" if self.words[0] == "pytest" else "fcot"
        return " ".join((program, *self.words)).replace(f"{ROOT}/", "")


def cells(size: str, tests: Path | None) -> list[Cell]:
    """Return the cells in order of worth: correctness, steps, answers, all else.

    Args:
        size: "full" for models of 2B and 8B, "tiny" for the same commands on a tiny one.
        tests: Folder of this project's tests, None if it is not there.
    """
    first, side_by_side = [], ("-n", "4") if find_spec("xdist") else ()
    if tests is not None:
        files = sorted(str(file) for file in tests.rglob("test_*.py") if "mark.gpu" in file.read_text(encoding="utf-8"))
        words = ("pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--continue-on-collection-errors")
        words = (*words, *side_by_side, *files)
        first.append(Cell("tests", words, 150, accelerator=True))
    return [*first, *(tiny() if size == "tiny" else full())]


def full() -> Iterator[Cell]:
    """Give the cells of models at real shapes."""
    yield _bench("rates", "rates", 30)
    for name in ("8b", "2b"):
        for ratio in ("2", "4"):
            yield _bench(f"step {name} ratio {ratio}", f"step --model {name} --ratio {ratio}", 60)
    # a cell for each batch: one that runs out of time has nothing to show
    for name in ("8b", "2b"):
        yield _bench(f"answers {name}", f"infer --model {name} --batch 1 --questions 4 --repeats 3", 60)
        yield _bench(f"answers {name} batch 8", f"infer --model {name} --batch 8 --questions 1 --repeats 3", 60)
    for name in ("2b", "8b"):
        step = f"step --model {name} --ratio 2 --naive false --compile true --repeats 3"
        yield _bench(f"step {name} compiled", step, 90)
    for size in ("32", "64"):
        for name in ("2b", "8b"):
            words = f"infer --model {name} --batch {size} --questions 1 --repeats 2"
            yield _bench(f"answers {name} batch {size}", words, 90)
    yield _bench("answers 2b compiled", "infer --model 2b --compile true --questions 1 --repeats 3", 90)
    yield _bench("post-training 2b", "sft --model 2b --ratio 2", 60)
    for name in ("2b", "8b"):
        yield _bench(f"kernels of a step {name}", f"kernels --of step --model {name} --ratio 2", 40)
        yield _bench(f"kernels of an answer {name}", f"kernels --of answer --model {name} --ratio 4", 40)
    for name in ("8b", "2b"):
        yield _bench(f"step {name} ratios 2 and 4", f"step --model {name} --ratios 2,4 --repeats 3", 60)
    yield _bench("loss", "loss --rows 4096 --width 4096", 30)
    yield _bench("preprocess", "preprocess", 30)
    yield _bench("data", "data --resume false --recipe letters", 60)
    yield _bench("merge", "merge --parameters 2e8", 90)


def tiny() -> Iterator[Cell]:
    """Give the same commands on a tiny model, with as little work as they take."""
    step = f"step --model {TINY} --tiles 1 --prompt 4 --answer 4 --repeats 1"
    answer = f"infer --model {TINY} --prompt 4 --new_tokens 2 --max_tiles 2 --page 200,100 --repeats 1"
    kernels = f"kernels --model {TINY} --tiles 1 --prompt 4 --answer 4"
    yield _bench("rates", f"rates --model {TINY} --tiles 1 --tokens 64 --copy_bytes 1000000 --repeats 1", 30)
    for ratio in ("2", "4"):
        yield _bench(f"step tiny ratio {ratio}", f"{step} --ratio {ratio}", 30)
    yield _bench("answers tiny", f"{answer} --batch 1,2 --questions 2", 30)
    yield _bench("post-training tiny", f"sft --model {TINY} --tiles 1 --prompt 4 --answer 4 --repeats 1", 30)
    yield _bench("kernels of a step tiny", f"{kernels} --of step", 30)
    yield _bench("kernels of an answer tiny", f"{kernels} --of answer", 30)
    yield _bench("step tiny ratios 2 and 4", f"{step} --ratios 2,4", 30)
    yield _bench("loss", "loss --rows 16 --width 16 --vocabulary 64 --repeats 1", 30)
    yield _bench("preprocess", "preprocess --width 200 --height 100 --max_tiles 2 --repeats 1", 30)
    yield _bench("data", "data --samples 8 --repeats 1 --resume false --recipe letters", 30)
    yield _bench("merge", "merge --parameters 1e6 --checkpoints 2 --width 64 --vocabulary 256", 60)


def _bench(name: str, words: str, seconds: float) -> Cell:
    return Cell(name, ("bench", *words.split()), seconds)
