"""Turn a parser's complaint into a few lines: what is wrong, where, and what was probably meant.

jsonargparse prints its usage and, for a class deep in a configuration, one line a type it tried. The words
matched here are those of jsonargparse 4.53; a complaint that is not recognised is passed on, shortened.
"""

import argparse
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from fcot.errors import nearest
from fcot.places import place

KEY = re.compile(r'Parser key "([^"]+)":\s*(.*)')
OWNER = re.compile(r"Problem with given class_path '([^']+)':\s*(.*)")
NOISE = re.compile(r"Does not validate against|Subtypes:|Errors:|Given value|Expected a path but|Unable to load")
LONGEST_LIST = 12  # names that are listed; of more, only a near one is named


class ParseError(Exception):
    """A parser refused its input.

    Attributes:
        message: What the parser said.
        parser: Which parser said it.
    """

    def __init__(self, message: str, parser: argparse.ArgumentParser) -> None:
        super().__init__(message)
        self.message, self.parser = message, parser


class RaisesParseError:
    """Makes a jsonargparse parser raise `ParseError` instead of printing its usage and exiting."""

    exit_on_error: bool

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report what is wrong."""
        if not self.exit_on_error:  # a nested parser that is tried, and whose failure has a handler
            super().error(message, ex)  # type: ignore[misc]
        assert isinstance(self, argparse.ArgumentParser)
        raise ParseError(message, getattr(ex, "subcommand_parser", None) or self)


@dataclass(frozen=True)
class Complaint:
    """The part of a message that says something.

    Attributes:
        key: Dotted key of the value that is wrong; "" if none is named.
        owner: Path of the class whose argument it is.
        text: What is wrong with it.
        whole: The whole message.
    """

    key: str
    owner: str | None
    text: str
    whole: str

    @classmethod
    def of(cls, message: str) -> "Complaint":
        """Read a message: keys lead inwards, alternatives that were tried after the first one do not matter."""
        keys: list[str] = []
        owner, text = None, ""
        for line in message.splitlines():
            text = line.strip().removeprefix("- ")
            if found := KEY.match(text):
                keys.append(found[1])
                text = found[2]
            if found := OWNER.match(text):
                owner, text = found[1], found[2]
            if text and not NOISE.match(text):
                break
        return cls(".".join(keys), owner, text, message)

    @property
    def value(self) -> str:
        """The value that was given."""
        found = re.search(r"(?:Got|Given) value: (.*)", self.whole)
        return found[1].strip() if found else ""


def explain(message: str, parser: argparse.ArgumentParser, words: list[str]) -> str:
    """Return at most five lines about a parser's message.

    Args:
        message: What the parser said.
        parser: Which parser said it.
        words: The command line, to find the place in a configuration file.
    """
    complaint, parser = Complaint.of(message), chosen(parser, words)
    for pattern, reply in REPLIES:
        if found := re.search(pattern, complaint.text):
            return reply(complaint, found, parser, words)
    lines = [line for line in complaint.text.splitlines() if line.strip()][:3]
    subject = f"{complaint.key}{place(complaint.key, words)}: " if complaint.key else ""
    return f"{subject}{' '.join(lines)[:400]}\n{see_help(parser)}"


def chosen(parser: argparse.ArgumentParser, words: list[str]) -> argparse.ArgumentParser:
    """Return the parser of the verb, if the complaint came from the one above it."""
    for action in parser._actions:
        if isinstance(action.choices, dict) and words and words[0] in action.choices:
            found: argparse.ArgumentParser = action.choices[words[0]]
            return found
    return parser


def see_help(parser: argparse.ArgumentParser) -> str:
    return f"See {parser.prog.replace(' [options]', '')} --help."


def suggest(name: str, known: set[str], parser: argparse.ArgumentParser) -> str:
    """Return the nearest name, the list of a few, or a second line that says where all are."""
    hint = nearest(name, known)
    if hint.startswith(" Known") and not 0 < len(known) <= LONGEST_LIST:
        return f"\n{see_help(parser)}"
    return hint


def unknown_key(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    name = found[1].split()[0].split("=")[0].removeprefix("--")
    known = {action.dest for action in parser._actions if action.dest not in ("help", argparse.SUPPRESS)}
    if not found[1].startswith("-") and complaint.text.startswith("unrecognized"):
        return f"{found[1]!r} is neither an option nor the value of one.\n{see_help(parser)}"
    return f"There is no option {name!r}{place(name, words)}.{suggest(name, known, parser)}"


def unknown_argument(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    inner = re.search(r"class_path='([^']+)'", complaint.text)  # a callable names its class behind the complaint
    owner = inner[1] if inner else complaint.owner or ""
    kind = imported(owner)
    known = set(parameters(kind)) if kind else set()
    key = f"{complaint.key}.{found[1]}"
    return (
        f"{owner.rpartition('.')[2]} has no argument {found[1]!r}{place(key, words)}.{suggest(found[1], known, parser)}"
    )


def unknown_class(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    known = {kind.__name__ for base in expected(complaint, parser) for kind in subclasses(base)}
    where = place(complaint.key, words, value=found[1])
    return (
        f"There is no class {found[1]!r} for {complaint.key}{where}.{suggest(found[1], known, parser)}\n"
        "A class of your own needs its full path: my_module.MyClass."
    )


def denied(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    where = place(complaint.key, words, value=found[1])
    return (
        f"{found[1]} may not be imported, but {complaint.key}{where} names it.\n"
        "Allowed are fcot, Lightning, torch.optim, torch.nn, torchmetrics, and modules in this folder or on "
        "PYTHONPATH.\nIf you trust it, allow a package of yours by name: --plugins my_package."
    )


def not_there(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    where = place(complaint.key, words)
    return f"{complaint.key}{where}: {found[0]}.\nCheck the spelling of class_path, and PYTHONPATH."


def wrong_type(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    kinds = re.search(r"Subtypes: \[(.*)\]", complaint.whole)
    names = re.findall(r"<class '(?:\w+\.)*(\w+)'>|(\w+\[[^\]]*\])", kinds[1] if kinds else found[0])
    wanted = " or ".join(plain or generic for plain, generic in names).replace("NoneType", "null")
    where = place(complaint.key, words)
    return f"{complaint.key} is {complaint.value!r}{where}.\nIt must be {wanted or found[0]}."


def missing(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    names = [name.removeprefix(f"{words[0]}.") for name in found[1].split(", ")]
    if complaint.owner:
        names = [f"{complaint.key}.{name}" for name in names]
    options = " ".join(f"--{name} …" for name in names)
    return f"{', '.join(names)} must be given.\nSet it in a configuration (--config FILE) or with {options}."


def broken_yaml(complaint: Complaint, found: re.Match[str], parser: Any, words: list[str]) -> str:
    text = " ".join(complaint.whole.split()).removeprefix("Problems parsing config: ")
    last = re.findall(r"line (\d+), column (\d+)", text)
    said = re.sub(r' in "<unicode string>", line \d+, column \d+', "", text)
    where = place("", words, broken=True)
    line = f" near line {last[-1][0]}" if last else ""
    return f"The configuration{where} is not valid YAML{line}: {said[:300]}.\nMind indentation, brackets and colons."


REPLIES: list[tuple[str, Any]] = [
    (r"does not accept option '([^']+)'", unknown_key),
    (r"unrecognized arguments: (.*)", unknown_key),
    (r"Option '([^']+)' is not accepted", unknown_argument),
    (r"Expected a dot import path string: (\S+)", unknown_class),
    (r"Importing '([^']+)' is not allowed", denied),
    (r"No module named '[^']+'|module '[^']+' has no attribute '[^']+'", not_there),
    (r"Expected a (?:<class '[^']+'>|[\w\[\], ]+)", wrong_type),
    (r"arguments are required: (.*)", missing),
    (r"Problems parsing config", broken_yaml),
]


def imported(path: str) -> type | None:
    """Return a class by its path, if its module is imported."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def parameters(kind: type) -> Iterator[str]:
    """Yield names of a constructor's parameters, those of its bases included."""
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    yield name


def expected(complaint: Complaint, parser: argparse.ArgumentParser) -> Iterator[type]:
    """Yield the classes that a key's value may be a subclass of."""
    owner = imported(complaint.owner or "")
    if owner is not None:
        hints = typing.get_type_hints(owner.__init__)
        yield from classes(hints.get(complaint.key.rpartition(".")[2]))
        return
    for action in parser._actions:
        if action.dest == complaint.key:
            yield from classes(getattr(action, "_typehint", None))


def classes(hint: Any) -> Iterator[type]:
    """Yield the classes in a type hint; of a callable, the class it returns."""
    if isinstance(hint, type):
        yield hint
    elif not isinstance(hint, list):
        for argument in typing.get_args(hint):
            yield from classes(argument)


def subclasses(base: type) -> Iterator[type]:
    """Yield a class and all its subclasses that are importable by a name."""
    if base.__module__ != "builtins":
        if not base.__name__.startswith("_"):
            yield base
        for kind in type.__subclasses__(base):
            yield from subclasses(kind)
