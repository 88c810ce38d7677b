"""Where importers are registered."""

from collections.abc import Callable

from fcot.registry import Registry
from shards.importers.importer import Importer

# An importer is `f(source, *, …)`; its keywords are what a user may say of an import.
IMPORTERS: Registry[Callable[..., Importer]] = Registry("importer", own=("source",))
