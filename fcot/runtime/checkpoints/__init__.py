"""Checkpoints of a run: written whole, checked when read, resumed to the same future."""
