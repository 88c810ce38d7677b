"""Help texts without Python's own words."""

import argparse
import re
from collections.abc import Callable

from jsonargparse import DefaultHelpFormatter

CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>")


class PlainHelp(DefaultHelpFormatter):
    """jsonargparse's help, in which the type of a path is "Path"."""

    def _get_type_str(self, action: argparse.Action) -> str | None:
        found: str | None = super()._get_type_str(action)
        return None if found is None else CLASS.sub(r"\1", found)

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        if not action.option_strings and "LIST_OF_PATHS_FILE" in str(action.metavar):  # which `one_list` makes of words
            return lambda size: (f"{action.dest.upper()} [{action.dest.upper()} …]",) * size
        made: Callable[[int], tuple[str, ...]] = super()._metavar_formatter(action, default_metavar)
        return made
