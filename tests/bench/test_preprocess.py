import json

import pytest
import torch

from fcot.bench.preprocess import float_tiles, preprocess
from fcot.bench.workload import page_image
from fcot.internvl.pixels import normalize
from fcot.internvl.sizes import IMAGENET_MEAN, IMAGENET_STD
from fcot.internvl.tiling import cut


@pytest.mark.parametrize("size", [(170, 220), (300, 90), (64, 64)])
def test_tiles_equal_those_of_the_usual_way_to_the_last_bit(size):
    page = page_image(*size)
    tiles = normalize(cut(page, 12, tile_size=56), torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))
    assert torch.equal(tiles, float_tiles(page, 12, 56))


def test_the_command_says_how_much_faster_and_that_the_tiles_are_the_same(tmp_path, capsys):
    preprocess(340, 440, tile_size=112, repeats=3, json=str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["same_tiles"] is True
    assert found["tiles"] == 13
    assert found["float"]["bytes"] == 4 * found["uint8"]["bytes"]
    gain = found["times_faster"]
    assert 0 < gain["low"] <= gain["median"] <= gain["high"] and gain["repeats"] == 3
    assert "the same to the last bit" in capsys.readouterr().out
