import pytest

from fcot.doctor.page import page_cost
from fcot.internvl.checkpoint import ModelFolder
from fcot.tiny import write_architecture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """InternVL2's tiles: 448 pixels, 256 visual tokens."""
    path = tmp_path_factory.mktemp("architecture")
    options = {"width": 32, "vision_layers": 1, "text_layers": 1, "heads": 2, "max_tiles": 12}
    return ModelFolder(write_architecture(path, tile_size=448, **options))


@pytest.mark.parametrize(("ratio", "after"), [(1, 3330), (2, 1666), (4, 834)])
def test_a_letter_page_costs_what_internvl2_counts(folder, ratio, after):
    cost = page_cost(folder, 1700, 2200, ratio)
    assert (cost.columns, cost.rows, cost.tiles) == (3, 4, 13)
    assert (cost.before, cost.after) == (3330, after)


def test_a_small_page_is_one_tile_without_thumbnail(folder):
    cost = page_cost(folder, 400, 400, 2)
    assert (cost.tiles, cost.before, cost.after) == (1, 258, 130)
