"""`--reduce NAME --reduce.OPTION VALUE` in the terms of a verb's parser: a name, and a dictionary of options."""

from collections.abc import Sequence

REDUCE = "--reduce"


def with_reducer(words: Sequence[str], prefix: str = "") -> list[str]:
    """Return a command line whose options of a reducer are those that the parser knows.

    Args:
        words: Such as `--reduce fastv --reduce.keep 0.5`.
        prefix: Where the verb has them, such as "model.".
    """
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if name == REDUCE:
            name = f"--{prefix}reduce"
        elif name.startswith(f"{REDUCE}."):
            name = f"--{prefix}reduce_options.{name.removeprefix(f'{REDUCE}.')}"
        found.append(name + equals + value)
    return found
