"""The name that configurations saved by 0.1.0 have; the module itself is in `fcot.training.realign`."""

from fcot.training.realign import Realign

__all__ = ["Realign"]
