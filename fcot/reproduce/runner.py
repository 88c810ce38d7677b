"""Runs commands as processes, each with the reason for it, several chains of them side by side."""

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from fcot.errors import UserError


class Command(NamedTuple):
    """A command of fcot.

    Attributes:
        reason: Why it is run.
        words: What follows `fcot`.
        made: A file that is there once it has ended, None if it is always to be run.
    """

    reason: str
    words: list[str]
    made: Path | None = None


class Runner:
    """Runs commands as processes of their own, and says before each what it is for.

    Args:
        total: How many there will be.
        held: Open files that processes hold too, such as that of `held_folder`.
    """

    def __init__(self, total: int, held: tuple[int, ...] = ()) -> None:
        self.total, self.begun, self.started, self.held = total, time.monotonic(), 0, held
        self.running: set[subprocess.Popen[str]] = set()
        self.stopped, self.lock = False, threading.Lock()

    def clock(self) -> str:
        """Return minutes and seconds since the beginning."""
        return "{} min {} s".format(*divmod(int(time.monotonic() - self.begun), 60))

    def run(self, commands: list[Command], *, mark: str = "", threads: int | None = None) -> None:
        """Run commands one after another.

        Args:
            commands: With the reason for each.
            mark: What each line of their output begins with.
            threads: Threads each may compute with (default: all).

        Raises:
            UserError: If one fails.
        """
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        to, errors_to = (subprocess.PIPE, subprocess.STDOUT) if mark else (None, None)
        for reason, words, made in commands:
            line = shlex.join(["fcot", *words])
            with self.lock:
                if self.stopped:
                    return
                self.started += 1
                if made is not None and made.exists():
                    print(
                        f"\n{mark}[{self.started}/{self.total}, {self.clock()}] {reason}: {made} is there", flush=True
                    )
                    continue
                print(f"\n{mark}[{self.started}/{self.total}, {self.clock()}] {reason}\n{mark}$ {line}", flush=True)
                program = [sys.executable, "-m", "fcot", *words]
                process = subprocess.Popen(
                    program,
                    env=environment,
                    stdout=to,
                    stderr=errors_to,
                    text=True,
                    errors="replace",
                    pass_fds=self.held,
                )
                self.running.add(process)
            for told in process.stdout or ():
                print(mark + told, end="", flush=True)
            code = process.wait()
            self.running.discard(process)
            if code and not self.stopped:
                raise UserError(f"This command ended with exit code {code}: {line}\nIts own lines above say why.")

    def run_chains(self, work: dict[str, list[Command]], done: Callable[[str], None] = lambda name: None) -> None:
        """Run chains of commands side by side, as many as there are cores; these are shared out among them.

        Several processes of a few threads train small models faster than one after another with all threads each.

        Args:
            work: Chains by name.
            done: Is called with the name of each chain that has ended.

        Raises:
            UserError: If a command fails; the others are stopped.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        lanes = min(len(work), cores)
        if lanes <= 1:
            for name, commands in work.items():
                self.run(commands)
                done(name)
            return
        with ThreadPoolExecutor(lanes) as pool:
            threads = max(1, cores // lanes)
            jobs = {
                pool.submit(self.run, commands, mark=f"{name:5}| ", threads=threads): name
                for name, commands in work.items()
            }
            try:
                for job in as_completed(jobs):
                    job.result()
                    done(jobs[job])
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Start nothing more, and end what runs."""
        with self.lock:
            self.stopped = True
            for process in list(self.running):
                process.terminate()
