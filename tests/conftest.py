"""A model and pages small enough for every test, made once a session."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers side by side share the cores; read when torch is first imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# cuBLAS repeats a product bit for bit only so; read when its first product is made
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

if TYPE_CHECKING:
    import torch

    from fcot.batch import Batch
    from fcot.runtime.trainer import Trainer
    from shards.feed.datamodule import Shards


@pytest.fixture(scope="session", autouse=True)
def lightning_is_imported() -> None:
    """Lightning keeps the stderr that it finds when it is first imported: the session's, not that of a test."""
    import lightning.pytorch  # noqa: F401


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The CUDA device, in fp32 as precise as a CPU; FCOT_GPU_TESTS_ON names another one, to try the tests without."""
    import torch

    named = os.environ.get("FCOT_GPU_TESTS_ON")
    found = torch.device(named) if named else torch.accelerator.current_accelerator(check_available=True)
    if found is None or not (named or found.type == "cuda"):
        pytest.skip("needs a CUDA device")
    libraries = torch.backends.cudnn, torch.backends.cuda.matmul
    # pytest's monkeypatch cannot put back what is no plain attribute
    before = [library.allow_tf32 for library in libraries]
    for library in libraries:
        library.allow_tf32 = False
    yield found
    for library, allowed in zip(libraries, before, strict=True):
        library.allow_tf32 = allowed


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a native InternVL with random weights: tiles of 56 pixels, 4 visual tokens each."""
    import torch
    from transformers import AutoConfig, InternVLForConditionalGeneration

    from fcot.tiny import write_architecture

    folder = write_architecture(
        tmp_path_factory.mktemp("checkpoint") / "tiny", tile_size=56, width=32, vision_layers=1, text_layers=1, heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        InternVLForConditionalGeneration(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def nest() -> Callable[..., dict[str, Any]]:
    """Return a function that puts a folder's image settings, changed or not, where transformers 5 saves them."""
    import json

    def move(folder: Path, **changes: Any) -> dict[str, Any]:
        own, processor = folder / "preprocessor_config.json", folder / "processor_config.json"
        settings = {**json.loads(own.read_text()), **changes}
        known = json.loads(processor.read_text()) if processor.is_file() else {"image_seq_length": 4}
        processor.write_text(json.dumps({**known, "image_processor": settings}))
        own.unlink()
        return settings

    return move


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the sets train (32 pages), dev (8) and test (8): prose of one tile of 112 pixels."""
    from shards.build import build_set

    root = tmp_path_factory.mktemp("shards")
    for split, samples in (("train", 32), ("dev", 8), ("test", 8)):
        build_set(root, "letters", split, samples, workers=1)
    return root


@pytest.fixture
def pages(tiny_shards: Path) -> Shards:
    """The tiny shards as the data of a run."""
    from shards.feed.datamodule import Shards

    return Shards(tiny_shards, batch_size=4, eval_batch_size=8, num_workers=0)


@pytest.fixture(scope="session")
def student_folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student as re-alignment saves it."""
    from fcot.models.student_folder import save_student
    from fcot.models.student_teacher import StudentTeacher

    folder = tmp_path_factory.mktemp("student")
    save_student(StudentTeacher(tiny_checkpoint, compressor="conv", ratio=2).student, folder, tiny_checkpoint)
    return folder


@pytest.fixture(scope="session")
def trainer() -> Callable[..., Trainer]:
    """Return a function that makes a Trainer for a folder, with callbacks and options."""
    from fcot.runtime.trainer import Trainer

    def make(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
        return Trainer(
            default_root_dir=folder,
            callbacks=list(callbacks),
            enable_progress_bar=False,
            **{"accelerator": "cpu", "logger": False, "limit_val_batches": 0, "checkpoint_every_n_steps": 0, **options},
        )

    return make


@pytest.fixture(scope="session")
def make_batch(tiny_checkpoint: Path) -> Callable[..., Batch]:
    """Return a function that batches (question, answer, number of tiles) for the tiny model, tiles of noise."""
    import numpy as np
    import torch

    from fcot.batch import PageLayout
    from fcot.internvl.checkpoint import ModelFolder
    from fcot.models.branches import student_branches
    from shards.feed.collate import collate
    from shards.feed.decode import Prepared

    encoder = ModelFolder(tiny_checkpoint).encoder()

    def prepared(question: str, answer: str, tiles: int) -> Prepared:
        images = [1] * tiles
        conversation = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        pixels = np.random.default_rng(len(question)).integers(0, 256, (tiles, 3, 56, 56), dtype=np.uint8)
        return Prepared(
            key=question,
            task="text",
            question=question,
            references=[answer],
            tiles=torch.from_numpy(pixels),
            encoded=encoder.encode(conversation, images),
            prompt=encoder.encode(conversation, images, prompt_only=True),
        )

    def make(
        *samples: tuple[str, str, int], ratio: int = 2, more: tuple[int, ...] = (), token_budget: int | None = None
    ) -> Batch:
        students = {branch: 4 // each for branch, each in student_branches((ratio, *more)).items()}
        layout = PageLayout(encoder, 56, 6, {"teacher": 4, **students})
        return collate([prepared(*sample) for sample in samples], layout, token_budget)

    return make


class Forks:
    """Trains in forks of one process that has everything imported."""

    def __init__(self, model, shards):
        self.given = {"model": str(model), "shards": str(shards)}
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        env.pop("PL_GLOBAL_SEED", None)
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forks.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def train(self, folder, *, processes=1, kill=None, each=None, **arguments):
        """Train in one or more processes at once and return their exit codes; `each` adds arguments of a rank."""
        folder.mkdir(parents=True, exist_ok=True)
        given = {"folder": str(folder), **self.given, **arguments}
        if processes > 1:
            given = {"devices": processes, "strategy": "ddp", **given}
        group = {"processes": [{**given, **(each or {}).get(rank, {})} for rank in range(processes)]}
        self.server.stdin.write(json.dumps(group | ({"kill": kill} if kill else {})) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    @staticmethod
    def record(folder, rank=0):
        """What a run saw, by batch; a batch that was done twice must have been the same both times."""
        found = {}
        for line in (folder / f"record-{rank}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            assert found.setdefault(entry["batch"], entry) == entry
        return found

    @staticmethod
    def weights(folder, rank=0):
        """What a run ended with."""
        import torch

        return torch.load(folder / f"final-{rank}.pt", weights_only=True)

    def same(self, first, second):
        """Whether two runs saw the same and ended with the same weights, to the last bit."""
        one, other = self.weights(first), self.weights(second)
        equal = one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
        return equal and self.record(first) == self.record(second)


@pytest.fixture(scope="session")
def forks(student_folder, tiny_shards):
    """Trains in processes that may be killed."""
    made = Forks(student_folder, tiny_shards)
    yield made
    made.server.stdin.close()
    made.server.wait(60)


@pytest.fixture(scope="session")
def type_in_terminal() -> Callable[[list[str], list[str]], str]:
    """Return a function that runs `python -m fcot` with words in a terminal, types lines, and returns all it shows."""

    def run(words: list[str], lines: list[str]) -> str:
        child, terminal = pty.fork()
        if child == 0:  # pragma: no cover - this is the other process
            os.chdir(Path(__file__).parents[1])
            os.execv(sys.executable, [sys.executable, "-m", "fcot", *words])
        seen, left = b"", list(lines)
        while True:
            try:
                piece = os.read(terminal, 1024)
            except OSError:  # how a terminal says that nobody is left
                break
            seen += piece
            if left and seen.endswith(b"> "):
                os.write(terminal, left.pop(0).encode())
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, seen.decode()
        return seen.decode().replace("\r\n", "\n")

    return run


FEW = {"fastv", "visionzip", "random"}  # reducers that are run in every way in each run of the suite


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every reducer runs on Llama with its positions kept, and a few in every way; all other pairs are marked slow."""
    for item in items:
        parts = getattr(item, "callspec", None)
        if parts is None or "reduce" not in item.nodeid.partition("::")[0]:
            continue
        words = set(parts.id.split("-"))
        elsewhere = {"qwen2", "qwen3", "renumbered"} & words or "llava" in item.nodeid
        if elsewhere and not words & FEW:
            item.add_marker(pytest.mark.slow)


class ParsedError(Exception):
    """Raised in place of running what was parsed."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that parses a command by the verb's own parser, without running it, where `configs/` lies."""
    import jsonargparse

    from fcot.cli.main import main
    from fcot.cli.train import TrainerCLI

    def parsed(*_: Any, **__: Any) -> None:
        raise ParsedError

    def parse_only(function: Any, args: Any, **options: Any) -> None:
        jsonargparse.auto_parser(function, **options).parse_args(args)
        raise ParsedError

    (tmp_path / "configs").symlink_to(Path(__file__).parents[1] / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainerCLI, "before_instantiate_classes", parsed)
    monkeypatch.setattr(jsonargparse, "auto_cli", parse_only)

    def run(command: str) -> None:
        words = shlex.split(command, comments=True)
        with pytest.raises((ParsedError, SystemExit)) as ended:
            main(words)
        assert ended.type is ParsedError or (ended.value.code in (0, None) and "help" in command)  # type: ignore[attr-defined]

    return run
