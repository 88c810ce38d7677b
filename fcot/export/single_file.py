"""Write classes, and everything in this project that they use, to one file that runs without it.

The file is generated from the sources themselves, so there is no second copy of any code to maintain.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from importlib.util import resolve_name
from itertools import groupby

from fcot.errors import UserError

HEADER = '''"""{title}

Written by `fcot export` from the sources of {packages}. Do not edit: change those and export again.
"""
'''


class Source:
    """The top-level definitions and imports of a module.

    Args:
        module: Dotted name of the module.

    Attributes:
        definitions: Functions, classes and constants by name.
        imports: For each imported name, its module and its name there; "" for the module itself.

    Raises:
        UserError: If the module has no source file.
    """

    def __init__(self, module: str) -> None:
        try:
            imported = import_module(module)
            text = inspect.getsource(imported)
        except (OSError, TypeError) as error:
            raise UserError(
                f"The source of module {module!r} cannot be read ({error}).\n"
                "Export takes a compressor from a file that can be imported, not from a notebook or a prompt."
            ) from error
        self.module, self.lines = module, text.splitlines()
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for node in ast.parse(text).body:
            for name in _defined(node):
                self.definitions[name] = node
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                origin = resolve_name("." * node.level + (node.module or ""), imported.__package__)
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (origin, alias.name)

    def text_of(self, name: str) -> str:
        """Return a definition's source lines unchanged, with decorators."""
        node = self.definitions[name]
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        return "\n".join(self.lines[first - 1 : node.end_lineno])

    def used_by(self, name: str) -> Iterator[str]:
        """Yield the names that a definition mentions."""
        for node in ast.walk(self.definitions[name]):
            if isinstance(node, ast.Name) and node.id != name:
                yield node.id


@lru_cache
def source_of(module: str) -> Source:
    """Return a module's source, cached."""
    return Source(module)


def _defined(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


class SingleFile:
    """Collects definitions, each after those that it uses, and their imports.

    Args:
        packages: Top-level packages whose code is copied into the file; all others stay imports.
    """

    def __init__(self, packages: set[str]) -> None:
        self.packages = packages
        self.home: dict[str, str] = {}
        self.texts: list[str] = []
        self._begun: set[str] = set()
        self.imports: set[tuple[str, str, str]] = set()

    def add(self, module: str, name: str) -> None:
        """Add a definition, following imports to it, and everything it uses.

        Raises:
            UserError: If two modules define the same name, or one renames what it imports from another.
        """
        source = source_of(module)
        if "annotations" in source.imports:
            self.imports.add((*source.imports["annotations"], "annotations"))
        if name in source.definitions:
            self._add_definition(source, name)
        elif name in source.imports:
            origin, original = source.imports[name]
            if origin.split(".")[0] not in self.packages:
                self._claim(name, f"{origin} {original}".strip())
                self.imports.add((origin, original, name))
            elif original == name:
                self.add(origin, name)
            else:
                raise UserError(
                    f"{module} imports {original or origin!r} from {origin} as {name!r}, which export cannot follow.\n"
                    f"Write `from {origin} import …` without another name."
                )

    def _add_definition(self, source: Source, name: str) -> None:
        self._claim(name, source.module)
        if name in self._begun:  # functions may be mutually recursive
            return
        self._begun.add(name)
        for used in source.used_by(name):
            self.add(source.module, used)
        text = source.text_of(name)
        if text not in self.texts:  # one statement may define several names
            self.texts.append(text)

    def _claim(self, name: str, home: str) -> None:
        """Record the module that a name comes from; there can be only one."""
        other = self.home.setdefault(name, home)
        if other != home:
            raise UserError(
                f"{name!r} has different definitions in {other} and {home}, but an exported model is one file.\n"
                "Rename one of them."
            )

    def text(self, title: str) -> str:
        """Return the text of the file."""
        header = HEADER.format(title=title, packages=", ".join(sorted(self.packages)))
        return "\n".join([header, *self._import_lines(), "\n", "\n\n\n".join(self.texts)]) + "\n"

    def _import_lines(self) -> Iterator[str]:
        if ("__future__", "annotations", "annotations") in self.imports:
            yield "from __future__ import annotations\n"
        plain = sorted({(origin, name) for origin, original, name in self.imports if not original})
        for origin, name in plain:
            yield f"import {origin}" if origin.split(".")[0] == name else f"import {origin} as {name}"
        named = sorted(each for each in self.imports if each[1] and each[0] != "__future__")
        for origin, group in groupby(named, key=lambda each: each[0]):
            names = [one if one == name else f"{one} as {name}" for _, one, name in group]
            yield f"from {origin} import {', '.join(names)}"


def single_file(title: str, *roots: type) -> str:
    """Return the source of one file with the given classes and everything in this project that they use.

    Args:
        title: First line of the file's docstring.
        roots: Classes; the code of their packages is copied.
    """
    file = SingleFile({root.__module__.split(".")[0] for root in roots})
    for root in roots:
        file.add(root.__module__, root.__name__)
    return file.text(title)
