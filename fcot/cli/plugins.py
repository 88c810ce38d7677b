"""What a configuration may import, and packages that add to it.

A `class_path` is imported and called, so a configuration from elsewhere could run anything. Only these are
allowed: fcot and what it builds on, modules in the working folder or on PYTHONPATH, installed packages that
declare the entry-point group `fcot.plugins`, and what `--plugins` or FCOT_PLUGINS names.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

from fcot.errors import UserError

GROUP = "fcot.plugins"
ALLOWED = (
    "fcot",
    "shards",
    "callbacks",
    "lightning.pytorch",
    "lightning.fabric",
    "torchmetrics",
    "torch.optim",
    "torch.nn",
    "torch.profiler",
    "torch.distributed.algorithms",
    "torch.distributed.fsdp",
)
DENIED = ("*", "lightning.pytorch.cli", "lightning.pytorch.utilities", "lightning.fabric.utilities")


def take_plugins(words: list[str]) -> tuple[list[str], list[str]]:
    """Split `--plugins NAME` off a command line.

    Returns:
        Named plugins, those of the environment variable FCOT_PLUGINS first, and the remaining words.

    Raises:
        UserError: If a name is missing or none.
    """
    named = [name.strip() for name in os.environ.get("FCOT_PLUGINS", "").split(",") if name.strip()]
    rest: list[str] = []
    pending = iter(words)
    for word in pending:
        option, equals, value = word.partition("=")
        if option != "--plugins":
            rest.append(word)
            continue
        value = value if equals else next(pending, "")
        named += value.split(",")
    for name in named:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UserError(f"{name!r} is no name of a package.\nGive what you would import: --plugins my_package.")
    return named, rest


def allow_imports(plugins: Iterable[str]) -> None:
    """Let configurations import what is allowed and nothing else, and import the named plugins.

    Raises:
        UserError: If a plugin is not there.
    """
    from jsonargparse import set_parsing_settings

    plugins = list(plugins)
    declared = [entry.module for entry in entry_points(group=GROUP)]
    packages = {name.split(".")[0] for name in (*plugins, *declared)}
    set_parsing_settings(
        import_path_denylist=list(DENIED),
        import_path_allowlist=[*ALLOWED, *sorted(packages), *own_modules()],
        instantiate_subclass_spec_in_any=False,
    )
    for name in plugins:
        load(name)


def load_declared() -> None:
    """Import the modules of installed plugins, so that short names of their classes are known."""
    for entry in entry_points(group=GROUP):
        load(entry.module)


def load(name: str) -> None:
    """Import a plugin.

    Raises:
        UserError: If it is not there; an error inside it is passed on.
    """
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"There is no plugin {name!r} ({error}).\nInstall it, or put its folder on PYTHONPATH."
        ) from error


def own_modules() -> Iterator[str]:
    """Yield top-level modules and packages in the working folder and in folders of PYTHONPATH.

    A folder of installed packages on PYTHONPATH is nobody's own code. What is shadowed by another module is left out.
    """
    folders = [
        Path.cwd(),
        *(Path(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path),
    ]
    for folder in folders:
        if any(folder.glob("*.dist-info")):
            continue
        names = {module.name for module in iter_modules([str(folder)])} - {"jsonargparse", *sys.stdlib_module_names}
        yield from (name for name in sorted(names) if name.isidentifier() and is_at(name, folder))


def is_at(name: str, folder: Path) -> bool:
    """Return whether importing a top-level module would take it from a folder."""
    try:
        spec = find_spec(name)
    except ValueError:  # __main__, or a module put together by hand
        return False
    return spec is not None and spec.origin is not None and folder.resolve() in Path(spec.origin).resolve().parents
