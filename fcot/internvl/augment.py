"""InternVL's augmentation of training tiles: JPEG compression at a random quality."""

import io

import numpy as np
import torch
from PIL import Image

from fcot.errors import UserError

BEST = 100  # JPEG quality


def check_quality(lowest: int) -> int:
    """Check a JPEG quality and return it.

    Raises:
        UserError: If it is not between 1 and 100.
    """
    if not 1 <= lowest <= BEST:
        raise UserError(f"jpeg_quality is {lowest}, not between 1 and {BEST}.\nInternVL2 was trained with 75.")
    return lowest


def jpeg_marks(tiles: torch.Tensor, lowest: int, rng: np.random.Generator) -> torch.Tensor:
    """Encode each tile as JPEG and decode it again, so that the model learns to read scans of any quality.

    InternVL's training code does this tile by tile, at a quality drawn uniformly from 75 to 100.

    Args:
        tiles: uint8 `[tiles, 3, S, S]`.
        lowest: Lowest quality, 1 to 100.
        rng: Draws the qualities.

    Returns:
        uint8 `[tiles, 3, S, S]`, in new memory.
    """
    marked = np.empty((*tiles.shape[:1], *tiles.shape[2:], 3), dtype=np.uint8)
    qualities = rng.integers(lowest, BEST, size=len(tiles), endpoint=True)
    for place, tile in enumerate(tiles.permute(0, 2, 3, 1).numpy()):
        encoded = io.BytesIO()
        Image.fromarray(tile).save(encoded, "JPEG", quality=int(qualities[place]))
        marked[place] = np.asarray(Image.open(encoded))
    return torch.from_numpy(marked).permute(0, 3, 1, 2).contiguous()
