"""Versions, devices, what a page costs, what training takes, and what would fail later."""

from fcot.doctor.cli import doctor

__all__ = ["doctor"]
