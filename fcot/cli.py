"""The command line: `python -m fcot VERB …`."""

import sys
from typing import NoReturn

from fcot.errors import UserError
from fcot.verbs import find_verb, groups, overview, run_tool


def main(args: list[str] | None = None) -> None:
    """Run a verb.

    Args:
        args: Words after `python -m fcot` (default: those of this process).

    Raises:
        SystemExit: With code 2 and a few lines on stderr when the user's input is wrong.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        dispatch(words)
    except UserError as error:
        fail(innermost(str(error)))


def dispatch(words: list[str]) -> None:
    """Run the verb that the words start with, or print the overview."""
    from fcot.plugins import allow_imports, take_plugins

    plugins, words = take_plugins(words)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    if words[0] in groups() and words[1:] in ([], ["-h"], ["--help"]):
        print(overview(words[0]))
        return
    name, verb = find_verb(words)
    allow_imports(plugins)
    from fcot.explain import ParseError, explain

    try:
        if verb.target is not None:
            run_tool(name, verb.target, words[len(name.split()) :])
        else:
            from fcot.trainer_cli import run_trainer

            run_trainer(words)
    except ParseError as error:
        raise UserError(explain(error.message, error.parser, words)) from error


def innermost(message: str) -> str:
    """Return the user's part of an error, without the traceback a data worker wraps around it."""
    return message.rpartition("UserError: ")[2].strip()


def fail(message: str) -> NoReturn:
    """Print an error and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
