"""Devices that Lightning does not know."""

from fcot.accelerators.npu import NPUAccelerator

__all__ = ["NPUAccelerator"]
