"""The command line: `fcot VERB …`, or `python -m fcot VERB …`."""

import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from fcot.cli.commands import find_verb, groups, overview, run_tool
from fcot.cli.encodings import configurations_are_utf8, speak_to_any_terminal
from fcot.cli.reduce_words import with_reducer
from fcot.cli.search_path import working_folder_last
from fcot.errors import UserError
from fcot.runtime.checkpoints.workers import end_workers

PACKAGES = ("fcot", "shards", "callbacks")


def main(args: list[str] | None = None) -> None:
    """Run a verb.

    Args:
        args: Words after `fcot` (default: those of this process).

    Raises:
        SystemExit: With code 2 and a few lines on stderr when the user's input is wrong.
    """
    words = list(sys.argv[1:] if args is None else args)
    working_folder_last()
    speak_to_any_terminal()
    try:
        dispatch(words)
        sys.stdout.flush()
    except UserError as error:
        fail(innermost(str(error)))
    except BrokenPipeError:  # the reader has seen enough, as `fcot --help | head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        raise SystemExit(1) from None
    except ImportError as error:
        if hidden := hidden_by():
            fail(f"{hidden} is imported in place of fcot's own {hidden.stem}.\nRename it, or change PYTHONPATH.")
        if unsuitable := packages_in_need():
            fail(f"{error}. {unsuitable}")
        raise


def dispatch(words: list[str]) -> None:
    """Run the verb that the words start with, or print the overview."""
    from fcot.cli.plugins import allow_imports, take_plugins

    plugins, words = take_plugins(words)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    if words[0] in groups() and words[1:] in ([], ["-h"], ["--help"]):
        print(overview(words[0]))
        return
    name, verb = find_verb(words)
    allow_imports(plugins)
    configurations_are_utf8()
    from fcot.cli.explain import ParseError, explain

    try:
        if verb.target is not None:
            run_tool(name, verb.target, with_reducer(words[len(name.split()) :]))
        else:
            from fcot.cli.train import run_trainer

            run_trainer(with_reducer(words, "model."))
    except ParseError as error:
        raise UserError(explain(error.message, error.parser, words)) from error
    finally:
        end_workers()  # an error keeps alive what reads batches, and the process would wait for its workers


def innermost(message: str) -> str:
    """Return the user's part of an error, without the traceback a data worker wraps around it."""
    return message.rpartition("UserError: ")[2].strip()


def hidden_by() -> Path | None:
    """Return the user's own folder or file that hides a package of this project; Python looks where it is run first."""
    home = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            place = origin.parent if origin.stem == "__init__" else origin
            if place.resolve() != home / name:
                return place
    return None


def packages_in_need() -> str:
    """Say which packages that fcot needs are missing or of another version, and how to install them; "" if none is."""
    from fcot.doctor.versions import installed

    packages = [package for package in installed() if package.problem]
    if not packages:
        return ""
    found = ", ".join(f"{package.name} ({package.found or 'not installed'})" for package in packages)
    wanted = " ".join(shlex.quote(package.wanted) for package in packages)
    return f"Missing or of another version than fcot needs: {found}.\nInstall them: pip install {wanted}"


def fail(message: str) -> NoReturn:
    """Print an error and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
