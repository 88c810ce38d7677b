"""The settings that make a student from a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fcot.compress import COMPRESSORS


@dataclass(frozen=True)
class StudentSpec:
    """A compressor, its ratio, and where it is placed.

    Attributes:
        compressor: Short name of the compressor.
        ratio: How many visual tokens become one.
        placement: "before" the projector, on pixel-shuffled features, "after" it, or "instead" of it.
        keep_positions: Whether a visual token takes as many positions as the tokens it replaces.
        options: Constructor arguments of this compressor alone.
        position_rule: Where it then stands: see `fcot.models.positions.teacher_positions`.

    Raises:
        UserError: If there is no such compressor, it has no such option, or it cannot stand there.
    """

    compressor: str = "conv"
    ratio: int = 2
    placement: str = "before"
    keep_positions: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    position_rule: str = "window"

    def __post_init__(self) -> None:
        """Check all but the ratio, for which the teacher's raster must be known."""
        COMPRESSORS.check_options(self.compressor, self.options)
        COMPRESSORS[self.compressor].require_place(self.placement)

    @classmethod
    def of(cls, compressor: str, ratio: int) -> "StudentSpec":
        """Return the settings of a compressor at the first of the places where it may stand."""
        return cls(compressor, ratio, COMPRESSORS[compressor].places[0])

    def at(self, ratio: int) -> "StudentSpec":
        """Return the same at another ratio."""
        return replace(self, ratio=ratio)
