"""The kinds of data that are made, one a file."""

from shards.factory.kinds.cot import Cot
from shards.factory.kinds.kind import ORIGINAL, Form, Judged, Kind
from shards.factory.kinds.label import Label
from shards.factory.kinds.rewrite import Rewrite

__all__ = ["ORIGINAL", "Cot", "Form", "Judged", "Kind", "Label", "Rewrite"]
