"""Texts out of and into this program whatever the locale says: a terminal shows what it can, files are UTF-8."""

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any


def speak_to_any_terminal() -> None:
    """Let stdout and stderr show "?" for a character that they have no code for, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def configurations_are_utf8() -> None:
    """Have jsonargparse read and write configurations as UTF-8; 4.53 opens them in the locale's encoding.

    Under a C or Latin-1 locale it could otherwise not read the ones that it has written elsewhere.
    """
    from jsonargparse import _core, _paths

    for module in (_core, _paths):
        vars(module)["open"] = open_utf8


def open_utf8(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
    """Open a file as Python does, a text as UTF-8 if no encoding is named."""
    if "b" not in mode and not args:
        options = {"encoding": "utf-8", **options}
    return Path(file).open(mode, *args, **options)
