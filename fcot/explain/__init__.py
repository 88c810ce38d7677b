"""Turn a parser's complaint into a few lines: what is wrong, where, and what was probably meant."""

from fcot.explain.complaint import ParseError, RaisesParseError
from fcot.explain.plain_help import PlainHelp
from fcot.explain.replies import explain

__all__ = ["ParseError", "PlainHelp", "RaisesParseError", "explain"]
