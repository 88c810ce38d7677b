"""The name that configurations saved by 0.1.0 have; the module itself is in `fcot.training.sft`."""

from fcot.training.sft import SFT

__all__ = ["SFT"]
