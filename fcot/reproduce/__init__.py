"""Experiments as one command."""
