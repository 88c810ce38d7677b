"""Help texts without Python's own words."""

import argparse
import re

from jsonargparse import DefaultHelpFormatter

CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>")


class PlainHelp(DefaultHelpFormatter):
    """jsonargparse's help, in which the type of a path is "Path"."""

    def _get_type_str(self, action: argparse.Action) -> str | None:
        found: str | None = super()._get_type_str(action)
        return None if found is None else CLASS.sub(r"\1", found)
