"""Heat is relative to even attention, and agreement is that of pages, whatever tokens models have."""

import numpy as np
import pytest
import torch
from PIL import Image

from fcot.look.heat import Heat, agreement, heat_of, overlay
from fcot.look.look import Look
from fcot.look.places import TokenPlaces, tile_tokens


def look_of(attention, grid=(2, 1), size=(90, 40)):
    tiles = [tile_tokens(None, 4, 16)] * (1 + 2 * (grid != (1, 1)))
    return Look("ab", ["a", "b"], attention, torch.full((2,), 0.5), TokenPlaces(size, grid, 4, tiles))


def test_even_attention_is_heat_of_1_everywhere():
    heat = heat_of(look_of(torch.full((2, 48), 1 / 48)))
    assert heat.over_page() == pytest.approx(np.ones((40, 90))) and heat.thumbnail == pytest.approx(np.ones((4, 4)))
    assert heat.thumbnail_share == pytest.approx(1 / 3)


def test_tokens_of_an_answer_count_alike():
    attention = torch.zeros(2, 48)
    attention[0, 0], attention[1, 40] = 1, 1  # first cell of the page; a cell of the thumbnail
    heat = heat_of(look_of(attention))
    assert heat.cells[0, 0] == 24 and heat.cells.sum() == 24
    assert heat.thumbnail_share == 0.5
    assert heat.over_page()[:10, :11].min() == 24 and heat.over_page()[:, 12:].max() == 0


def heat(cells):
    return Heat(np.asarray(cells, dtype=float), None, (40, 20))


def test_agreement_is_of_places_whatever_the_size_of_tokens():
    ramp = np.arange(32.0).reshape(4, 8)
    for same in (ramp, 3 * ramp, ramp.repeat(5, 0)):
        found = agreement(heat(ramp), heat(same))
        assert (found.correlation, found.overlap) == pytest.approx((1, 1))
    assert agreement(heat(ramp), heat(-ramp)).correlation == pytest.approx(-1)
    assert agreement(heat(ramp), heat(-ramp)).overlap == 0


def test_a_model_that_looks_evenly_shares_about_a_tenth_and_has_no_correlation():
    even = agreement(heat(np.arange(32.0).reshape(4, 8)), heat(np.ones((4, 8))))
    assert even.correlation is None and 0.1 <= even.overlap < 0.13


def test_the_hottest_tenth_is_a_tenth_however_large_a_token_is():
    one, two = np.zeros((2, 2)), np.zeros((4, 8))
    one[0, 0], two[0, 0], two[0, 1], two[0, 2] = 1, 3, 2, 1
    # 0.4 of each cell of the hot quarter belongs to the tenth; of the other model 3 cells, and 0.2 of a cell over 29
    assert agreement(heat(one), heat(two)).overlap == pytest.approx((3 * 0.4 + 5 * 0.2 / 29) / 3.2, abs=0.01)


def test_the_overlay_colours_what_is_hot_and_leaves_the_rest():
    page = Image.new("RGB", (20, 10), (200, 200, 200))
    page.paste((0, 0, 0), (2, 2, 4, 4))
    hot = np.zeros((10, 20))
    hot[:, :10] = 5
    drawn = np.asarray(overlay(page, hot, 5.0)).astype(int)
    assert (drawn[:, 10:] == 200).all()
    assert (drawn[3, 3] == 0).all()  # ink stays ink
    red, green, blue = drawn[8, 5]
    assert red > green + 60 and red > blue + 60
