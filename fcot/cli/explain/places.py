"""Find where on a command line or in its configuration files a key was given."""

from collections.abc import Iterator
from pathlib import Path

import yaml

TRANSPARENT = ("init_args", "dict_kwargs")  # keys that a class's arguments may stand under


def place(key: str, words: list[str], *, value: str | None = None, broken: bool = False) -> str:
    """Return " (FILE, line N)" or " (command line)" for a key, "" if it is nowhere to be seen.

    Args:
        key: Dotted key such as "trainer.max_steps".
        words: The command line.
        value: Of several places, prefer the one with this value.
        broken: Look for the file that is not valid YAML instead of a key.
    """
    options = {word.split("=")[0].rstrip("+") for word in words if word.startswith("--")}
    if key and any(f"{option}.".startswith(f"--{key}.") for option in options):
        return " (command line)"
    for path in reversed(config_files(words)):
        try:
            root = yaml.compose(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        except yaml.YAMLError:
            if broken:
                return f" {path}"
            continue
        found = list(lines(root, key.split("."))) if key and root is not None else []
        if found:
            best = next((line for line, text in found if value is not None and text == value), found[0][0])
            return f" ({path}, line {best})"
    return ""


def config_files(words: list[str]) -> list[Path]:
    """Return the files given with --config or -c, in order."""
    found = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in ("--config", "-c"):
            found.append(Path(value if equals else following))
    return [path for path in found if path.is_file()]


def lines(node: yaml.Node, names: list[str]) -> Iterator[tuple[int, str]]:
    """Yield line and text of every value whose keys are `names`, list items and init_args looked through."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from lines(item, names)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, child in node.value:
        if key.value.rstrip("+") == names[0]:
            if len(names) > 1:
                yield from lines(child, names[1:])
            else:
                yield from leaves(key, child)
        elif key.value in TRANSPARENT:
            yield from lines(child, names)


def leaves(key: yaml.Node, node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield line and text of a key's value, and of class paths below it."""
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    yield key.start_mark.line + 1, text
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for item in items:
        if isinstance(item, yaml.MappingNode):
            for name, child in item.value:
                if name.value == "class_path":
                    yield from leaves(name, child)
