import torch

from fcot.internvl.pixels import normalize


def test_normalisation_is_by_channel():
    tiles = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    out = normalize(tiles, torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.5, 0.5, 0.25]))
    assert out[0, :, 0, 0].tolist() == [0.0, 1.0, 4.0]
