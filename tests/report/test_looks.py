"""The picture of looks shows each model's heat where it is."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fcot.look.heat import agreement, heat_of
from fcot.look.look import Look
from fcot.look.places import TokenPlaces, tile_tokens
from fcot.report.looks import PageLooks, Seen, caption, draw_looks


def seen(token, grid=(1, 1), size=(120, 120), answer="a", first=None):
    tiles = [tile_tokens(None, 4, 16)] * (1 if grid == (1, 1) else grid[0] * grid[1] + 1)
    attention = torch.zeros(1, 16 * len(tiles))
    attention[0, token] = 1
    look = Look(answer, [answer], attention, torch.full((1,), 0.4), TokenPlaces(size, grid, 4, tiles))
    heat = heat_of(look)
    return Seen(look, heat, first and agreement(first.heat, heat))


def drawn(models, pages):
    picture = Image.open(io.BytesIO(draw_looks(models, pages)))
    assert picture.width == 1800  # readable at 1000
    return np.asarray(picture.convert("RGB")).astype(int)


def middle_of_heat(pixels):
    """Where the red is, as shares of width and height."""
    rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 2] > 120)
    return columns.mean() / pixels.shape[1], rows.mean() / pixels.shape[0]


def test_models_stand_side_by_side_each_with_its_heat():
    page = Image.new("RGB", (120, 120), "white")
    corners = {}
    for token in (0, 3, 12):  # upper left, upper right, lower left cell
        looks = PageLooks("a page", page, "What?", [seen(5), seen(token)])
        pixels = drawn(["teacher", "student"], [looks])
        corners[token] = middle_of_heat(pixels[:, pixels.shape[1] // 2 :])
    assert corners[3][0] > corners[0][0] + 0.3 and corners[3][1] == pytest.approx(corners[0][1], abs=0.02)
    assert corners[12][1] > corners[0][1] + 0.3 and corners[12][0] == pytest.approx(corners[0][0], abs=0.02)


def test_the_thumbnail_has_its_own_place():
    page = Image.new("RGB", (240, 120), "white")
    looks = [PageLooks("wide", page, "What?", [seen(token, (2, 1), (240, 120))]) for token in (0, 32)]
    on_page, on_thumbnail = (middle_of_heat(drawn(["teacher"], [each])) for each in looks)
    assert on_page[0] < 0.3 and on_thumbnail[0] > 0.75


def test_what_a_model_said_and_how_far_it_agrees_stands_below():
    first = seen(0)
    told = caption(seen(0, answer="line 1\nline $2$", first=first), 200)
    assert "“line 1 ↵ line $2$”" in told and "40% of the attention on visual tokens" in told
    assert "correlation 1.00, 100% of the hottest tenth shared" in told
    assert "first model" not in caption(first, 200)
    long = caption(seen(0, answer="word " * 500), 60).splitlines()
    assert max(map(len, long)) <= 60 and len(long) < 9


def test_tall_pages_long_answers_and_several_rows_fit_in_a_picture():
    tall = Image.new("RGB", (100, 900), "white")
    pages = [PageLooks("tall", tall, "Why? " * 60, [seen(1, (1, 3), (100, 900), "$x_1 " * 300)] * 3)] * 2
    pixels = drawn(["a", "b" * 200, "c"], pages)
    assert 700 < pixels.shape[0] < 3000
    assert (pixels[:, -8:] == 255).all() and (pixels[-8:] == 255).all()
