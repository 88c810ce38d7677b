"""The router: predicts from vision features what a tile costs at each ratio."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcot.route.ink_rule import ink
from fcot.route.seen import SeenTiles

BLANK = 1e-3  # ink of a tile that has none, for its logarithm
HIDDEN = 64


class Router(nn.Module):
    """Predicts the KL that a page gains when a tile is read at a ratio instead of whole.

    A tile is described by mean, maximum and deviation of its tokens, by whether it is a thumbnail, the logarithm of its
    page's number of tiles, and that of its ink; a small network turns that into the logarithm of each cost.

    Args:
        width: Width of a token of the features.
        ratios: Number of ratios above 1.
        hidden: Width of the network.

    Attributes:
        mean, deviation: Of the descriptions of the tiles that it was fitted to.
    """

    reads_features = True
    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, ratios: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.width = width
        inputs = 3 * width + 3
        self.first, self.last = nn.Linear(inputs, hidden), nn.Linear(hidden, ratios)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))

    def describe(self, seen: SeenTiles) -> Tensor:
        """Return what the network is told of each tile: see `describe`."""
        return describe(seen, self.width)

    def log_costs(self, described: Tensor) -> Tensor:
        """Return the logarithm of each tile's cost at each ratio above 1, `[tiles, ratios]`; always float32."""
        inputs = (described - self.mean.float()) / self.deviation.float()
        hidden = functional.gelu(functional.linear(inputs, self.first.weight.float(), self.first.bias.float()))
        return functional.linear(hidden, self.last.weight.float(), self.last.bias.float())

    @torch.no_grad()
    def costs(self, seen: SeenTiles) -> Tensor:
        """Return what each tile costs at ratio 1, where that is nothing, and at each above, `[tiles, 1 + ratios]`."""
        with torch.autocast(self.mean.device.type, enabled=False):
            found = self.log_costs(self.describe(seen)).exp()
        return functional.pad(found, (1, 0)).cpu()


def describe(seen: SeenTiles, width: int) -> Tensor:
    """Return what a router is told of each tile, float32 `[tiles, 3 · width + 3]`, without gradient.

    Args:
        seen: Tiles with features.
        width: Width of a token of the last layer's features, behind which those of others may stand.
    """
    assert seen.features is not None, "a learned router reads features"
    tokens = seen.features.detach().float()[..., :width]
    mean = tokens.mean(1)
    deviation = (tokens - mean[:, None]).square_().mean(1).sqrt_()  # torch.std takes up to 50 times as long on a CPU
    parts = [mean, tokens.amax(1), deviation]
    more = [seen.thumbnail, seen.together.log(), (ink(seen.pixels) + BLANK).log()]
    return torch.cat([*parts, torch.stack([each.to(tokens.device).float() for each in more], 1)], 1)
