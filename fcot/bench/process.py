"""Time and peak memory of another process, whatever program it runs; Linux only."""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcot.errors import UserError

PAUSE = 0.005  # seconds between two looks at the peak


@dataclass(frozen=True)
class Spent:
    """What a process took.

    Attributes:
        seconds: From its start to its end.
        peak_bytes: Most resident memory, mapped files included.
    """

    seconds: float
    peak_bytes: int


def spent_by(words: Sequence[str]) -> Spent:
    """Run a command and return what it took.

    Raises:
        UserError: If it cannot be run or fails.
    """
    peak = 0
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        try:
            process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        except OSError as error:
            raise UserError(f"{words[0]} cannot be run ({error}).\nGive the path of a program.") from None
        # The kernel keeps the peak of each program, so looking often misses only a rise right before the end; what it
        # tells a parent at the end may be the parent's own memory, from before the program was loaded.
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(PAUSE)
        seconds = time.perf_counter() - begun
        if process.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise UserError(f"{' '.join(words)} failed: {''.join(last)}\nRun it by itself to see all it says.")
    return Spent(seconds, peak)


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # it has just ended
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
