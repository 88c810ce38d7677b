"""Turn a parser's complaint into a few lines: what is wrong, where, and what was probably meant."""

from fcot.cli.explain.complaint import ParseError, RaisesParseError
from fcot.cli.explain.plain_help import PlainHelp
from fcot.cli.explain.replies import explain

__all__ = ["ParseError", "PlainHelp", "RaisesParseError", "explain"]
