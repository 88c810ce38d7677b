"""The settings that make a student from a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fcot.compress import COMPRESSORS
from fcot.errors import UserError

PLACEMENTS = ("before", "after")


@dataclass(frozen=True)
class StudentSpec:
    """A compressor, its ratio, and where it is placed.

    Attributes:
        compressor: Short name of the compressor.
        ratio: How many visual tokens become one.
        placement: "before" the projector, on pixel-shuffled features, or "after" it.
        keep_positions: Whether a visual token takes as many positions as the tokens it replaces.
        options: Constructor arguments of this compressor alone.

    Raises:
        UserError: If there is no such compressor, it has no such option, or the placement is unknown.
    """

    compressor: str = "conv"
    ratio: int = 2
    placement: str = "before"
    keep_positions: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check all but the ratio, for which the teacher's raster must be known."""
        COMPRESSORS.check_options(self.compressor, self.options)
        if self.placement not in PLACEMENTS:
            raise UserError(f"placement is {self.placement!r}. Use 'before' or 'after' (the projector).")

    def at(self, ratio: int) -> "StudentSpec":
        """Return the same at another ratio."""
        return replace(self, ratio=ratio)
