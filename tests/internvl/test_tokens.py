import numpy as np
import pytest
import torch

from fcot.internvl.checkpoint import ModelFolder
from fcot.internvl.tokens import check_placeholders, even_windows, places_in_tile, positions_by_place, tokens_per_tile


def test_tokens_of_a_tile_follow_the_ratio(tiny_checkpoint):
    config = ModelFolder(tiny_checkpoint).config
    assert [tokens_per_tile(config, ratio) for ratio in (1, 2, 4)] == [4, 2, 1]
    for ratio in (0, 3, 8):
        with pytest.raises(ValueError, match=f"Ratio {ratio} does not divide the 4 visual tokens"):
            tokens_per_tile(config, ratio)


def test_a_mismatch_names_the_sample_what_was_expected_and_found():
    ids = torch.tensor([[7, 7, 1], [7, 1, 1]])
    tiles = torch.tensor([1, 2])
    check_placeholders(ids, 7, torch.tensor([2, 1, 0]), tiles, ["first", "second"])
    message = r"Sample 'second' \(2 tiles\) has 1 image placeholders for 4 visual tokens"
    with pytest.raises(ValueError, match=message):
        check_placeholders(ids, 7, torch.tensor([2, 3, 1]), tiles, ["first", "second"])


def rectangles(rows, columns, side):
    """The number of the window of each place of a raster, windows in raster order."""
    row, column = np.divmod(np.arange(side * side), side)
    return (row // rows * (side // columns) + column // columns).reshape(side, side)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1), (2, 4), (4, 4)])
@pytest.mark.parametrize("side", [4, 16])
def test_a_token_stands_in_the_first_row_of_its_window_in_the_middle_of_its_columns(rows, columns, side):
    expected = [
        rows * i * side + columns * k + (columns - 1) / 2 for i in range(side // rows) for k in range(side // columns)
    ]
    found = places_in_tile(rectangles(rows, columns, side))
    assert found.tolist() == expected
    assert found.is_floating_point() == (columns % 2 == 0)


def test_windows_of_unequal_size_and_of_several_rows_have_places_too():
    assert even_windows(3, 2).tolist() == [[0, 0], [1, 2]]
    assert places_in_tile(even_windows(3, 2)).tolist() == [0.5, 2, 3]
    assert places_in_tile(even_windows(2, 4)).tolist() == [1.5, 9.5]


def test_tokens_for_the_whole_tile_stand_in_front_of_the_others():
    windows = rectangles(1, 2, 4)
    assert places_in_tile(windows, 1).tolist() == [0, *places_in_tile(windows).tolist()]
    assert places_in_tile(rectangles(1, 1, 2), 2).tolist() == [-1, -0.5, 0, 1, 2, 3]


@pytest.mark.parametrize("each", [False, True], ids=["one for all tiles", "one for each tile"])
def test_a_tile_takes_as_many_positions_as_in_the_teacher_and_text_stays_where_it_is(each):
    image, places = 9, torch.tensor([0.5, 2.5])
    ids = torch.tensor([[0, 0, 1, image, image, image, image, 2], [1, 2, 3, 4, image, image, 5, 6]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1] * 8])
    found = positions_by_place(ids, mask, image, [places] * 3 if each else places, teacher_tokens=4)
    assert found.tolist() == [[0, 0, 0, 1.5, 3.5, 5.5, 7.5, 9], [0, 1, 2, 3, 4.5, 6.5, 8, 9]]
    text = torch.tensor([[1, 2, 3]])
    assert positions_by_place(text, None, image, [] if each else places, 4).tolist() == [[0, 1, 2]]
