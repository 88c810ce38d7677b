"""Jobs for an engine: picklable, so not in a test."""

import os
import signal
import time
from pathlib import Path


def name_of(path, number):
    time.sleep(0.05 * (number % 3))  # so that they do not end in order
    return f"{path}:{number}"


def killed_once(path, number):
    """Kill the worker at the first try of one job."""
    if number == 3 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_killed(path, number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fails(path, number):
    if number == 2:
        raise KeyError(f"no {number}")
    return number


def where(path):
    return Path.cwd(), Path(path).read_text(encoding="utf-8")


def rest(path):
    path.write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(300)
