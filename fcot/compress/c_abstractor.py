"""Honeybee's C-Abstractor: convolutional blocks around a pooling (arXiv 2312.06742)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcot.compress.windows import WindowCompressor


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a raster `[tiles, channels, rows, columns]`; eps 1e-5."""

    def forward(self, raster: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        return super().forward(raster.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Module):
    """A convolution without bias and a norm; names of weights are those of the released checkpoints.

    Args:
        width: Channels in.
        out: Channels out.
        kernel: Side of the kernel; the raster keeps its size.
        groups: Groups of channels.
    """

    def __init__(self, width: int, out: int, kernel: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = ChannelNorm(out)

    def forward(self, raster: Tensor) -> Tensor:
        """Return `[tiles, out, rows, columns]`."""
        normed: Tensor = self.bn(self.conv(raster))
        return normed


class SqueezeExcitation(nn.Module):
    """Scales the channels of a raster by a gate that sees their means.

    Args:
        width: Channels.
        inner: Channels of the gate.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, raster: Tensor) -> Tensor:
        """Return the raster scaled; the shape stays."""
        gate = self.fc2(functional.silu(self.fc1(raster.mean((2, 3), keepdim=True)))).sigmoid()
        scaled: Tensor = raster * gate
        return scaled


class RegNetBlock(nn.Module):
    """A RegNet block of group size 1: 1x1, depth-wise 3x3, squeeze and excitation, 1x1, a shortcut around all.

    Args:
        width: Channels in.
        out: Channels out; the shortcut is a map of its own if it differs.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, out)
        self.conv2 = ConvNorm(out, out, 3, groups=out)
        self.se = SqueezeExcitation(out, round(width / 4))
        self.conv3 = ConvNorm(out, out)
        self.downsample = nn.Identity() if width == out else ConvNorm(width, out)

    def forward(self, raster: Tensor) -> Tensor:
        """Return `[tiles, out, rows, columns]`."""
        inner = functional.silu(self.conv1(raster))
        inner = self.conv3(self.se(functional.silu(self.conv2(inner))))
        return functional.silu(inner + self.downsample(raster))


def regnet_stage(width: int, out: int, depth: int) -> nn.Sequential:
    """Return `depth` blocks, named b1, b2, …, the first from `width` channels."""
    stage = nn.Sequential()
    for number in range(depth):
        stage.add_module(f"b{number + 1}", RegNetBlock(width if number == 0 else out, out))
    return stage


def average_pooling(side: int, pooled: tuple[int, int]) -> nn.Module:
    """Return the average pooling of a raster to rows and columns.

    Where these divide its side, as in every compressor here, it is the plain one: the adaptive one gives the same, but
    has no deterministic backward pass on CUDA, and `trainer.deterministic` refuses it
    (https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html).

    Args:
        side: Rows and columns of the raster.
        pooled: Rows and columns of the result.
    """
    if any(side % each for each in pooled):
        return nn.AdaptiveAvgPool2d(pooled)
    return nn.AvgPool2d((side // pooled[0], side // pooled[1]))


class Abstractor(nn.Module):
    """The module as published: positions, blocks, adaptive average pooling, blocks, an MLP.

    Args:
        tokens: Tokens of a tile, a square number.
        width: Width of a token.
        inner: Width of the blocks.
        out: Width of the result.
        pooled: Rows and columns of the result.
        depth: Blocks before and after pooling; 0 for pooling alone.
        mlp_depth: Linear maps at the end, SiLU between them.
        prenorm: Normalise tokens first.
        eos_tokens: Learned tokens appended to the result.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        inner: int,
        out: int,
        pooled: tuple[int, int],
        *,
        depth: int = 3,
        mlp_depth: int = 2,
        prenorm: bool = False,
        eos_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.empty(1, tokens, width))
        self.eos_tokens = nn.Parameter(torch.empty(1, eos_tokens, out)) if eos_tokens else None
        self.prenorm = nn.LayerNorm(width, eps=1e-6) if prenorm else nn.Identity()
        pooling = average_pooling(int(tokens**0.5), pooled)
        if depth:
            self.net: nn.Module = nn.Sequential(
                regnet_stage(width, inner, depth), pooling, regnet_stage(inner, inner, depth)
            )
        else:
            self.net, inner = pooling, width
        maps: list[nn.Module] = [nn.Linear(inner, out)]
        for _ in range(mlp_depth - 1):
            maps += [nn.SiLU(), nn.Linear(out, out)]
        self.readout = nn.Sequential(*maps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw positions and further tokens from N(0, 0.02²); the layers have weights already."""
        nn.init.normal_(self.pos_emb, std=0.02)
        if self.eos_tokens is not None:
            nn.init.normal_(self.eos_tokens, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[tiles, tokens, width]` to `[tiles, rows · columns + eos_tokens, out]`."""
        side = int(tokens.shape[1] ** 0.5)
        placed = self.prenorm(tokens) + self.pos_emb  # not in place, as in the original, which changes its input
        raster = self.net(placed.transpose(1, 2).unflatten(2, (side, side)))
        found: Tensor = self.readout(raster.flatten(2).transpose(1, 2))
        if self.eos_tokens is not None:
            found = torch.cat([found, self.eos_tokens.expand(len(found), -1, -1)], dim=1)
        return found


class CAbstractor(WindowCompressor):
    """Mean of a compact window, plus a C-Abstractor whose one linear readout starts at zero.

    Args:
        ratio: How many tokens become one.
        side: Side of the raster of tokens.
        width: Width of a token.
        depth: Blocks before and after pooling.
        inner: Width of the blocks; None for a quarter of a token's.
    """

    def __init__(self, *, ratio: int, side: int, width: int, depth: int = 3, inner: int | None = None) -> None:
        super().__init__(ratio=ratio, side=side, width=width)
        inner = inner or max(1, width // 4)
        self.branch = Abstractor(side * side, width, inner, width, self.pooled_raster, depth=depth, mlp_depth=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the mean of each window."""
        self.reset_parts()
        self.start_at_zero(self.branch.readout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compress `[tiles, tokens, width]` to `[tiles, tokens // ratio, width]`."""
        compressed: Tensor = self.pooled(tokens) + self.branch(tokens)
        return compressed
