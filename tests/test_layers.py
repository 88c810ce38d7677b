"""Which room may import which: no room imports one above it, wherever in a file the import stands."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOOSE = {"__init__", "__main__", "errors", "batch", "environment"}  # files directly in fcot/
OLD_NAMES = {"student", "sft", "realign"}  # what exported model cards and configurations of 0.1.0 import

# Each room may import those listed with it. The order is that of the floors, lowest first.
MAY_IMPORT = {
    "errors": "",
    "environment": "",
    "tiny": "errors",
    "registry": "errors",
    "statistics": "errors",
    "metrics": "errors registry statistics",
    "files": "errors",
    "compress": "errors registry",
    "route": "errors",
    "internvl": "errors files",
    "reduce": "errors registry internvl",
    "batch": "internvl",
    "merge": "errors registry files statistics",
    "convert": "errors files internvl",
    "models": "errors batch files internvl compress route reduce convert",
    "runtime": "errors files models",
    "evaluation": "errors batch files registry statistics metrics internvl reduce convert models",
    "training": "errors batch files internvl compress route reduce convert metrics models runtime evaluation",
    "bench": "errors environment batch files internvl reduce convert models evaluation training merge",
    "serve": "errors internvl route reduce convert models bench",
    "look": "errors batch internvl compress reduce convert models bench serve",
    "report": "errors environment files internvl compress convert metrics models evaluation merge bench look",
    "export": "errors environment files internvl compress models runtime",
    "doctor": "errors environment internvl convert models serve",
    "shards": "errors registry statistics metrics batch files internvl convert models runtime bench",
    "callbacks": "errors batch files route merge models runtime training shards",
    "reproduce": "errors environment batch files internvl compress route reduce convert statistics merge models "
    "evaluation training bench look report shards",
    "cli": "errors batch files internvl route merge models export doctor runtime training shards callbacks",
    "old names": "models training",
    "front": "cli",  # __init__, __main__
}


def modules(root: Path) -> dict[str, Path]:
    """The files of the project by dotted name."""
    found = {}
    for package in ("fcot", "shards", "callbacks"):
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def room(module: str) -> str:
    """The room that a module is in."""
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if package != "fcot":
        return package
    if first in ("", "__main__"):
        return "front"
    return "old names" if first in OLD_NAMES else first


def imports(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The project's modules that a file imports, within functions and for types too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relative to itself"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in known:
                name = name.rpartition(".")[0]
            if name:
                yield name


def upward(root: Path) -> list[str]:
    """Every import of a room that may not be imported from there."""
    known = modules(root)
    return [
        f"{module} imports {other}"
        for module, file in known.items()
        for other in imports(file, known)
        if room(other) != room(module) and room(other) not in MAY_IMPORT[room(module)].split()
    ]


def test_no_room_imports_one_that_it_may_not():
    assert upward(ROOT) == []


def test_the_table_has_no_cycle_and_no_room_that_is_not_there():
    floors = [*MAY_IMPORT]
    for name, allowed in MAY_IMPORT.items():
        assert all(floors.index(other) < floors.index(name) for other in allowed.split()), name
    assert {room(module) for module in modules(ROOT)} == set(floors)


def test_what_the_table_allows_is_used():
    known = modules(ROOT)
    used = {(room(module), room(other)) for module, file in known.items() for other in imports(file, known)}
    unused = [
        (name, other) for name, allowed in MAY_IMPORT.items() for other in allowed.split() if (name, other) not in used
    ]
    assert unused == []


def test_directly_in_fcot_stand_few_files():
    assert {file.stem for file in (ROOT / "fcot").glob("*.py")} == LOOSE | OLD_NAMES


@pytest.mark.parametrize(
    "line", ["from fcot.cli.main import main", "def f():\n    import fcot.report.page", "from fcot import training"]
)
def test_an_upward_import_is_found(tmp_path, line):
    for module, file in modules(ROOT).items():
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text(encoding="utf-8")
        copy.write_text(f"{text}\n{line}\n" if module == "fcot.internvl.tokens" else text, encoding="utf-8")
    (found,) = upward(tmp_path)
    assert found.startswith("fcot.internvl.tokens imports fcot.")
