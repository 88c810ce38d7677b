"""Find members of a kind by short name: compressors, metrics, merge methods and whatever else plugs in."""

from fcot.registry.registry import Registry, snake_case

__all__ = ["Registry", "snake_case"]
