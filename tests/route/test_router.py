"""What the learned router is told of a tile."""

import torch

from fcot.route import SeenTiles, describe


def test_a_tile_is_told_by_mean_maximum_and_deviation_of_its_tokens_place_and_ink():
    torch.manual_seed(0)
    features, pixels = 3 + torch.randn(3, 16, 5), torch.full((3, 3, 4, 4), 255, dtype=torch.uint8)
    pixels[1, :, :2] = 0
    kept = features.clone()
    found = describe(SeenTiles(pixels, [3], features), 4)
    tokens = features[..., :4]
    expected = torch.cat([tokens.mean(1), tokens.amax(1), tokens.std(1, correction=0)], 1)
    torch.testing.assert_close(found[:, :12], expected)
    assert found[:, 12].tolist() == [0, 0, 1]
    torch.testing.assert_close(found[:, 13:], torch.tensor([[3, 1e-3], [3, 0.501], [3, 1e-3]]).log())
    assert torch.equal(features, kept)
