import io

import numpy as np
import pytest
import torch
from PIL import Image

from fcot.errors import UserError
from fcot.internvl.augment import check_quality, jpeg_marks


@pytest.fixture(scope="module")
def tiles():
    """Three tiles of smooth colour with an edge, each other than the last."""
    ramp = torch.linspace(0, 255, 56).expand(3, 56, 56)
    page = torch.stack([ramp, ramp.flip(2), ramp.transpose(1, 2)]).to(torch.uint8)
    page[:, :, 20:30] = 0
    return page.contiguous()


def test_each_tile_is_what_pillow_makes_of_it_at_the_quality_drawn(tiles):
    marked = jpeg_marks(tiles, 75, np.random.default_rng(3))
    for tile, found, quality in zip(tiles, marked, np.random.default_rng(3).integers(75, 101, 3), strict=True):
        data = io.BytesIO()
        Image.fromarray(tile.permute(1, 2, 0).numpy()).save(data, "JPEG", quality=int(quality))
        assert torch.equal(found.permute(1, 2, 0), torch.from_numpy(np.array(Image.open(data))))


def test_a_page_stays_readable_and_the_given_one_untouched(tiles):
    before = tiles.clone()
    marked = jpeg_marks(tiles, 75, np.random.default_rng(0))
    assert marked.dtype == torch.uint8
    assert marked.shape == tiles.shape
    assert not torch.equal(marked, tiles)
    assert (marked.float() - tiles.float()).abs().mean() < 5
    assert torch.equal(tiles, before)


def test_a_lower_quality_leaves_deeper_marks(tiles):
    def distance(lowest, highest_draw):
        class Always:
            def integers(self, *_, size, **__):
                return np.full(size, highest_draw)

        return (jpeg_marks(tiles, lowest, Always()).float() - tiles.float()).abs().mean()

    assert distance(20, 20) > distance(75, 95)


def test_no_tiles_stay_none():
    assert jpeg_marks(torch.zeros(0, 3, 56, 56, dtype=torch.uint8), 75, np.random.default_rng(0)).shape == (
        0,
        3,
        56,
        56,
    )


@pytest.mark.parametrize("lowest", [0, 101, -5])
def test_a_number_that_is_no_quality_is_refused(lowest):
    with pytest.raises(UserError, match=f"jpeg_quality is {lowest}, not between 1 and 100"):
        check_quality(lowest)
