"""Positions of a student that keeps its teacher's: text stands where it does in the teacher."""

from typing import Any

import torch
from torch import Tensor

from fcot.compress import Compressor
from fcot.errors import UserError
from fcot.internvl.tokens import even_windows, places_in_tile, positions, positions_by_place, token_steps

RULES = ("window", "step")


def teacher_positions(
    config: Any, compressor: Compressor, input_ids: Tensor, mask: Tensor | None, counts: Tensor | None
) -> Tensor:
    """Return the positions of tokens `[batch, length]`, of which a tile takes as many as in the teacher.

    By the rule "window" a visual token stands in the first row of the window that it stands for, in the middle of its
    columns, so that positions may be halves. By "step", the rule of fcot 0.1.0, token j of a tile stands at the place
    ratio · j.

    Args:
        config: Configuration of the student.
        compressor: The student's.
        input_ids: `[batch, length]`.
        mask: 1 on tokens, 0 on padding; None for all tokens.
        counts: Visual tokens of each tile in the ids, in order; needed where tiles differ.

    Raises:
        UserError: If the rule is unknown, or counts are missing where tiles differ.
    """
    image_id, teacher, most = config.image_token_id, compressor.side**2, compressor.max_tokens
    if config.position_rule not in RULES:
        raise UserError(f"position_rule is {config.position_rule!r}. Use 'window', or 'step' for an older student.")
    by_window = config.position_rule == "window"
    if not compressor.varies and by_window:
        return positions_by_place(input_ids, mask, image_id, window_places(compressor), teacher)
    if not compressor.varies and teacher % most == 0:
        return positions(input_ids, mask, image_id, teacher // most)
    if counts is None:
        number = int((input_ids == image_id).sum())
        if number and compressor.varies:
            raise UserError("Positions of visual tokens need tile_tokens, which this student's processor returns.")
        counts = torch.full((number // most,), most)
    if by_window:
        places = [places_in_tile(even_windows(count, compressor.side)) for count in counts.tolist()]
        return positions_by_place(input_ids, mask, image_id, places, teacher)
    return positions(input_ids, mask, image_id, token_steps(counts, teacher))


def window_places(compressor: Compressor) -> Tensor:
    """Return where a tile's visual tokens stand among the teacher's `[tokens]`; see `places_in_tile`."""
    windows = compressor.windows(compressor.ratio, compressor.side)
    if windows is None:
        windows = even_windows(compressor.max_tokens - compressor.lead, compressor.side)
    return places_in_tile(windows, compressor.lead)
