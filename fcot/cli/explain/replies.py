"""One reply for each kind of complaint."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from fcot.cli.explain.complaint import Complaint
from fcot.cli.explain.names import expected, imported, parameters, subclasses
from fcot.cli.explain.places import place
from fcot.errors import nearest

LONGEST_LIST = 12  # names that are listed; of more, only a near one is named
Found = re.Match[str]
Parser = argparse.ArgumentParser
Reply = Callable[[Complaint, Found, Parser, list[str]], str]


def explain(message: str, parser: Parser, words: list[str]) -> str:
    """Return at most five lines about a parser's message.

    Args:
        message: What the parser said.
        parser: Which parser said it.
        words: The command line, to find the place in a configuration file.
    """
    complaint, parser = Complaint.of(message), of_verb(parser, words)
    for pattern, reply in REPLIES:
        if found := re.search(pattern, complaint.text):
            return reply(complaint, found, parser, words)
    if message.startswith("Problems parsing config"):
        return broken_yaml(message, words)
    subject = f"{complaint.key}{place(complaint.key, words)}: " if complaint.key else ""
    return f"{subject}{complaint.text[:400]}\n{see_help(parser)}"


def of_verb(parser: Parser, words: list[str]) -> Parser:
    """Return the parser of the verb, if the complaint came from the one above it."""
    for action in parser._actions:
        if isinstance(action.choices, dict) and words and words[0] in action.choices:
            found: Parser = action.choices[words[0]]
            return found
    return parser


def see_help(parser: Parser) -> str:
    """Return where all options are listed."""
    return f"See {parser.prog.replace(' [options]', '')} --help."


def suggest(name: str, known: set[str], parser: Parser) -> str:
    """Return the nearest name, the list of a few, or a second line that says where all are."""
    hint = nearest(name, known)
    if hint.startswith(" Known") and not 0 < len(known) <= LONGEST_LIST:
        return f"\n{see_help(parser)}"
    return hint


def unknown_key(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to an option that no parser has."""
    name = found[1].split()[0].split("=")[0]
    if complaint.text.startswith("unrecognized") and not name.startswith("-"):
        return f"{name!r} is neither an option nor the value of one.\n{see_help(parser)}"
    name = name.removeprefix("--")
    known = {action.dest for action in parser._actions if action.dest != "help"}
    return f"There is no option {name!r}{place(name, words)}.{suggest(name, known, parser)}"


def unknown_argument(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to an argument that a class does not have."""
    named = re.search(r"class_path='([^']+)'", complaint.text)  # a callable names its class behind the complaint
    owner = named[1] if named else complaint.owner
    kind = imported(owner)
    hint = suggest(found[1], set(parameters(kind)) if kind else set(), parser)
    where = place(f"{complaint.key}.{found[1]}", words)
    return f"{owner.rpartition('.')[2]} has no argument {found[1]!r}{where}.{hint}"


def unknown_class(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to a short class name that nothing has."""
    bases = expected(complaint.key, complaint.owner, parser)
    known = {kind.__name__ for base in bases for kind in subclasses(base)}
    where = place(complaint.key, words, value=found[1])
    return (
        f"There is no class {found[1]!r} for {complaint.key}{where}.{suggest(found[1], known, parser)}\n"
        "A class of your own needs its full path: my_module.MyClass."
    )


def denied(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to a class path that a configuration may not import."""
    where = place(complaint.key, words, value=found[1])
    package = found[1].split(".")[0]
    if find_spec(package) is None:
        return (
            f"There is no module {package!r} to take {found[1]} from, which {complaint.key}{where} names.\n"
            "It must lie in the working folder or on PYTHONPATH, or be an installed plugin."
        )
    return (
        f"{found[1]} may not be imported, but {complaint.key}{where} names it.\n"
        "Allowed are fcot, Lightning, torch.optim, torch.nn, torchmetrics, and modules in this folder or on "
        "PYTHONPATH.\nIf you trust it, allow a package of yours by name: --plugins my_package."
    )


def not_there(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to a class path in a module that does not have it."""
    module, name = found[1], found[2]
    known = {
        known
        for known, thing in vars(sys.modules[module]).items()
        if isinstance(thing, type) and thing.__module__.startswith(module)
    }
    where = place(complaint.key, words, value=f"{module}.{name}")
    return f"{module} has no class {name!r}, which {complaint.key}{where} names.{suggest(name, known, parser)}"


def no_file(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to a file that is not there."""
    path = Path(os.path.relpath(found[1]))
    others = {str(other.relative_to(path.parent)) for other in path.parent.glob("*.yaml")}
    option = f"--{complaint.key}" if complaint.key else "the command line"
    return f"There is no file {str(path)!r}, which {option} names.{suggest(path.name, others, parser)}"


def no_value(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to an option at the end of the line, or before another one."""
    given = next((word for word in reversed(words) if word.startswith(found[1])), found[1]).rstrip("=")
    action = parser._option_string_actions.get(found[1])
    if getattr(action, "_typehint", None) is bool:
        return f"{given} has no value.\nWrite {given} true."
    return f"{given} has no value.\nWrite {given}=VALUE."


def wrong_type(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to a value of another type."""
    kinds = re.sub(r"typing\.Literal\[(.*?)\]", r"\1", complaint.kinds or found[0].removeprefix("Expected a "))
    wanted = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kinds).replace("NoneType", "null")
    return f"{complaint.key} is {complaint.value!r}{place(complaint.key, words)}.\nIt must be {wanted}."


def missing(complaint: Complaint, found: Found, parser: Parser, words: list[str]) -> str:
    """Reply to arguments without a value and without a default."""
    positional = [action.dest for action in parser._actions if not action.option_strings]
    if absent := [name.upper() for name in found[1].split(", ") if name in positional]:
        verb = "is" if len(absent) == 1 else "are"
        everything = " ".join(name.upper() for name in positional)
        return f"{' and '.join(absent)} {verb} missing.\nWrite {parser.prog.replace(' [options]', '')} {everything} …"
    prefix = f"{complaint.key}." if complaint.owner else ""
    names = [prefix + name.removeprefix(f"{words[0]}.") for name in found[1].split(", ")]
    options = " ".join(f"--{name} …" for name in names)
    return f"{' and '.join(names)} must be given.\nSet it in a configuration (--config FILE) or with {options}"


def broken_yaml(message: str, words: list[str]) -> str:
    """Reply to a configuration that is not YAML."""
    text = " ".join(message.split()).removeprefix("Problems parsing config: ")
    lines = re.findall(r"line (\d+), column \d+", text)
    said = re.sub(r',? in "<unicode string>", line \d+, column \d+', ",", text).rstrip(" ,:")
    near = f" near line {lines[-1]}" if lines else ""
    where = place("", words, broken=True)
    return f"The configuration{where} is not valid YAML{near}: {said[:300]}.\nMind indentation, brackets and colons."


REPLIES: list[tuple[str, Reply]] = [
    (r"does not accept option '([^']+)'", unknown_key),
    (r"unrecognized arguments: (.*)", unknown_key),
    (r"Option '([^']+)' is not accepted", unknown_argument),
    (r"Expected a dot import path string: (\S+)", unknown_class),
    (r"Importing '([^']+)' is not allowed", denied),
    (r"module '([^']+)' has no attribute '([^']+)'", not_there),
    (r"File does not exist: '([^']+)'", no_file),
    (r"argument (--[\w.]+)\S*: expected one argument", no_value),
    (r"Expected a (?:<class '[^']+'>|[\w.]+\[.*?\]+)", wrong_type),
    (r"arguments are required: (.*)", missing),
]
