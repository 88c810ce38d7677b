"""What a jsonargparse parser complains about.

jsonargparse prints its usage and, for a class deep in a configuration, a line for each type that it tried. The
words matched here are those of jsonargparse 4.53.
"""

import argparse
import re
from dataclasses import dataclass
from typing import NoReturn

KEY = re.compile(r'Parser key "([^"]+)":\s*(.*)')
OWNER = re.compile(r"Problem with given class_path '([^']+)':\s*(.*)")
KINDS = re.compile(r"Subtypes: \[(.*)\]")
NOISE = re.compile(r"Does not validate against|Errors:|Given value|Expected a path but|Unable to load config '")


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
        """Raise what is wrong."""
        if not self.exit_on_error:  # a nested parser that is only tried; its caller handles the failure
            super().error(message, ex)  # type: ignore[misc]
        assert isinstance(self, argparse.ArgumentParser)
        raise ParseError(message, getattr(ex, "subcommand_parser", None) or self)


@dataclass(frozen=True)
class Complaint:
    """The informative part of a message.

    Attributes:
        key: Dotted key of the value that is wrong; "" if none is named.
        owner: Path of the class whose argument it is; "" if it is none's.
        kinds: The types that were tried for it, as the message lists them; "" if there was one only.
        text: What is wrong.
        value: The value that was given; "" if it is not named.
    """

    key: str
    owner: str
    kinds: str
    text: str
    value: str

    @classmethod
    def of(cls, message: str) -> "Complaint":
        """Read a message: each key is nested in the one before it; of alternatives that were tried the first counts."""
        keys: list[str] = []
        owner = kinds = text = ""
        for line in message.splitlines():
            text = line.strip().removeprefix("- ")
            if found := KEY.match(text):
                keys.append(found[1])
                kinds, text = "", found[2]
            if found := OWNER.match(text):
                owner, kinds, text = found[1], "", found[2]
            if found := KINDS.match(text):
                kinds, text = found[1], ""
            if text and not NOISE.match(text):
                break
        value = re.search(r"(?:Got|Given) value: (.*)", message)
        return cls(".".join(keys), owner, kinds, text, value[1].strip() if value else "")
