"""Ask a model about pages, in a terminal."""

from fcot.chat.cli import chat

__all__ = ["chat"]
