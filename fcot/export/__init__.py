"""Ship a student: a folder that transformers loads, with fcot and without it."""

from fcot.export.cli import export

__all__ = ["export"]
