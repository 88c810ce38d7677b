"""Runs each cell of `bench device` in a process of its own, which may fail or hang without harm to the others."""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from fcot.bench.device_cells import Cell

# imported once: a cell then starts in a fraction of a second instead of several
PRELOADED = ["fcot.cli.main", "fcot.bench.infer", "fcot.bench.merge", "fcot.bench.sft", "shards.bench"]
TAIL = 4000  # characters of a cell's output that the results keep


def context() -> ForkServerContext:
    """Return what makes the processes; they begin with fcot imported, and no device in use."""
    made = get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    return made


def run(cell: Cell, processes: ForkServerContext, folder: Path, seconds: float) -> dict[str, Any]:
    """Run a cell and return its record: status, seconds, what the command found, and the end of its output.

    Args:
        cell: What to run.
        processes: Makes the process.
        folder: Where its output goes while it runs.
        seconds: After so many it is killed, with all that it started.
    """
    said, results = folder / "output.log", folder / "results.json"
    for file in (said, results):
        file.unlink(missing_ok=True)
    words = cell.words if cell.words[0] == "pytest" else (*cell.words, "--json", str(results))
    begun = time.monotonic()
    process = processes.Process(target=work, args=(words, str(said)))
    process.start()
    try:
        process.join(seconds)
    finally:
        late = process.is_alive()
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.join()
    status = "timed out" if late else "done" if process.exitcode == 0 else "failed"
    text = said.read_text(encoding="utf-8", errors="replace") if said.is_file() else ""
    found: Mapping[str, Any] | None = None
    if status == "done" and results.is_file():
        found = json.loads(results.read_text(encoding="utf-8"))
    return {
        "name": cell.name,
        "command": cell.command,
        "status": status,
        "exit_code": None if late else process.exitcode,
        "seconds": round(time.monotonic() - begun, 1),
        "limit": round(seconds, 1),
        "output": text[-TAIL:],
        "found": found,
    }


def work(words: tuple[str, ...], said: str) -> None:
    """Run a command as the leader of a group of processes, its output in a file."""
    os.setsid()
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if words[0] == "pytest":
        sys.exit(subprocess.call([sys.executable, "-m", *words]))
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    try:
        sys.argv = ["fcot", *words]
        runpy.run_module("fcot", run_name="__main__")
    finally:
        sys.stdout.flush()
