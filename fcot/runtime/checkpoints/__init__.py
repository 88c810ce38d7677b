"""Checkpoints of a run: written completely or not at all, checked when read, resumed exactly."""
