"""The tiny world's model: an InternVL small enough to learn to read on two CPU cores."""

from fcot.tiny.architecture import write_architecture

__all__ = ["write_architecture"]
