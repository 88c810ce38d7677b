"""No compression: the control that must reproduce the teacher."""

from torch import Tensor

from fcot.compress.compressor import Compressor
from fcot.errors import UserError


class Identity(Compressor):
    """Returns the tokens unchanged; the ratio must be 1."""

    def __init__(self, *, ratio: int, side: int, width: int) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        if ratio != 1:
            raise UserError(f"The identity compressor keeps every token and cannot have ratio {ratio}. Use 1.")

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `[tiles, tokens, width]` unchanged."""
        return tokens
