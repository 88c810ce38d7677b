"""The tiny world's model: an InternVL small enough to learn to read on two CPU cores."""

from fcot.tiny.architecture import write_architecture
from fcot.tiny.grow import grow

__all__ = ["grow", "write_architecture"]
