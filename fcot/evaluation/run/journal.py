"""Answers on disk: appended batch by batch, so that a run killed at any moment goes on where it was."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcot.errors import UserError
from fcot.evaluation.rows import Answer

SETTINGS = "settings.json"


class Journal:
    """The answers of one model to one split of a benchmark.

    Each process appends to a file of its own, and all are read.

    Args:
        folder: Where they are; created.
        settings: What the answers depend on.
        rank: Number of this process.

    Raises:
        UserError: If answers there were made with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rank: int = 0) -> None:
        self.folder, self.file = folder, folder / f"answers-{rank}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._check(json.loads(json.dumps(settings)))

    def _check(self, settings: dict[str, Any]) -> None:
        file = self.folder / SETTINGS
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            part.replace(file)
            return
        except ValueError as error:
            raise UserError(f"{file} is not valid JSON ({error}).\nRemove {self.folder} to answer again.") from error
        differing = [name for name in {**there, **settings} if there.get(name) != settings.get(name)]
        if differing:
            name = differing[0]
            raise UserError(
                f"The answers in {self.folder} were made with {name} {there.get(name)!r}, and it is "
                f"{settings.get(name)!r} now.\nGive another --output, or remove that folder to answer again."
            )

    def read(self) -> dict[str, Answer]:
        """Return all answers so far by row; a line that a kill cut short is not one."""
        found: dict[str, Answer] = {}
        for file in sorted(self.folder.glob("answers-*.jsonl")):
            for line in file.read_bytes().splitlines():
                try:
                    fields = json.loads(line)
                except ValueError:
                    continue  # cut short by a kill: no part of an object is one
                found.setdefault(fields["id"], Answer(**{**fields, "size": tuple(fields["size"])}))
        return found

    def append(self, answers: Iterable[Answer]) -> None:
        """Write answers, and return when they are on disk."""
        text = "".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
        with self.file.open("ab") as out:
            if out.tell() and self._torn():
                out.write(b"\n")
            out.write(text.encode("utf-8", "surrogatepass"))
            out.flush()
            os.fsync(out.fileno())

    def _torn(self) -> bool:
        with self.file.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
