"""Server processes of a load test: models of random weights at real shapes, each behind `fcot serve`."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import torch

from fcot.bench.workload import random_pair
from fcot.errors import UserError
from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.sizes import SIZES
from fcot.models.new_student import student_of
from fcot.models.spec import StudentSpec
from fcot.models.student_folder import save_student

TEACHER = Path("fcot/tiny/teacher")  # whose tokenizer a size gets, for it has none
SPECIAL = 262  # tokens of that tokenizer


def give_tokenizer(folder: Path) -> None:
    """Give the configuration of a size the tiny teacher's tokenizer, each further id a token that can be seen."""
    teacher = ModelFolder(TEACHER)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name in ("tokenizer_config.json", "generation_config.json"):
        (folder / name).write_bytes((teacher.path / name).read_bytes())
    tokenizer = json.loads((teacher.path / "tokenizer.json").read_text(encoding="utf-8"))
    further = range(SPECIAL, config["text_config"]["vocab_size"])
    vocabulary = tokenizer["model"]["vocab"]
    # an added token that the vocabulary lacks would be numbered behind it
    vocabulary.update({token["content"]: token["id"] for token in tokenizer["added_tokens"]})
    vocabulary.update({f"t{number}": number for number in further})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    config["image_token_id"] = teacher.config.image_token_id
    config["system_message"] = ""  # InternVL2's own would be 170 tokens of one byte
    for part in (config, config["text_config"]):
        part.update(
            {name: teacher.read_json("generation_config.json")[name] for name in ("eos_token_id", "pad_token_id")}
        )
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_models(base: Path, ratios: Sequence[int], compressor: str, dtype: torch.dtype, into: Path) -> dict[int, Path]:
    """Write a model folder for each ratio, which differ in the projector alone.

    Args:
        base: A folder with configuration, tokenizer and preprocessing.
        ratios: How many visual tokens become one; 1 is the teacher.
        compressor: Short name of the students' compressor.
        dtype: Of the weights.
        into: Where the folders are made.
    """
    torch.manual_seed(0)
    pair, folders = random_pair(base, torch.device("cpu"), dtype), {}
    for ratio in ratios:
        model = pair.student if ratio == 1 else student_of(pair.student, StudentSpec.of(compressor, ratio))
        folders[ratio] = into / f"ratio-{ratio}"
        save_student(model.to(dtype), folders[ratio], base)
    return folders


class ServerProcess:
    """A server in a process of its own.

    Args:
        folder: The model.
        options: Of `fcot serve`.
        log: File for what it says of failures.

    Attributes:
        port: Where it listens.

    Raises:
        UserError: If it does not start.
    """

    def __init__(self, folder: Path, options: Sequence[str], log: IO[str]) -> None:
        command = [sys.executable, "-m", "fcot", "serve", str(folder), "--port", "0", "--key_variable", "", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        found = re.search(r" is served at http://.*:(\d+)/", self.process.stdout.readline())
        if found is None:
            self.process.wait()
            log.seek(0)
            raise UserError(f"The server of {folder.name} did not start: {log.read().strip()[-500:]}")
        self.port = int(found[1])

    def peak_bytes(self) -> int | None:
        """Return the most bytes that were resident so far; None where the system does not say."""
        status = Path(f"/proc/{self.process.pid}/status")
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
        return int(found[1]) * 1024 if found else None

    def end(self) -> None:
        """End it, and wait."""
        self.process.terminate()
        self.process.communicate()


@contextmanager
def server_of(folder: Path, options: Sequence[str]) -> Iterator[ServerProcess]:
    """Give a server for as long as it is needed; arguments as of `ServerProcess`."""
    with TemporaryFile("w+") as log:
        server = ServerProcess(folder, options, log)
        try:
            yield server
        finally:
            server.end()


def is_size(model: str) -> bool:
    """Return whether a model is a size by name, which has no tokenizer."""
    return model in SIZES
