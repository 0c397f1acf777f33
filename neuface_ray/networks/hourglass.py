"""Stacked hourglass networks: image features at every pixel, and heatmaps of 2D points.

Sources: Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016; the block of Bulat and
Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?", ICCV 2017; the arrangement of PIFu (Saito et
al., ICCV 2019), which Learned Vertex Descent takes over. Written from the papers.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or the most that divide ``channels``: no statistics of a batch enter."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


class ConvBlock(nn.Module):
    """Pre-activation block: three 3x3 convolutions of c/2, c/4 and c/4 channels, concatenated, plus a residual path."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        parts = (width // 2, width // 4, width - width // 2 - width // 4)
        inputs = (channels, parts[0], parts[1])
        self.norms = nn.ModuleList(norm(c) for c in inputs)
        self.convs = nn.ModuleList(nn.Conv2d(c, p, 3, 1, 1, bias=False) for c, p in zip(inputs, parts, strict=True))
        self.shortcut = None
        if channels != width:
            self.shortcut = nn.Sequential(norm(channels), nn.ReLU(), nn.Conv2d(channels, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        outputs, y = [], x
        for normalise, conv in zip(self.norms, self.convs, strict=True):
            y = conv(torch.relu(normalise(y)))
            outputs.append(y)
        return torch.cat(outputs, 1) + (x if self.shortcut is None else self.shortcut(x))


class Hourglass(nn.Module):
    """Down ``depth`` times by average pooling and up again, with a skip branch at each resolution; keeps [B, C, h, w].

    Upsampling is bicubic about pixel centres, which commutes with shifts by whole coarse pixels.
    """

    def __init__(self, depth: int, width: int):
        super().__init__()
        self.skip, self.down, self.up = (ConvBlock(width, width) for _ in range(3))
        self.inner = Hourglass(depth - 1, width) if depth > 1 else ConvBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.avg_pool2d(x, 2))))
        return self.skip(x) + doubled(low)


def doubled(x: Tensor) -> Tensor:
    """Maps [..., h, w] at twice their size [..., 2 h, 2 w], bicubic about pixel centres.

    As products with small matrices, which on CPUs take a tenth of the time of ``F.interpolate`` and give the same.
    """
    rows, columns = (_doubling(size).to(x) for size in x.shape[-2:])
    return rows @ x @ columns.T


@lru_cache(maxsize=64)
def _doubling(size: int) -> Tensor:
    """(2 size, size) matrix that interpolates a line of pixels."""
    return F.interpolate(torch.eye(size)[None, None], size=(2 * size, size), mode="bicubic", align_corners=False)[0, 0]


class StackedHourglass(nn.Module):
    """Images [B, C, H, W] in [0, 1] to one feature map [B, width, H / reduction, W / reduction] of each stack.

    Args:
        channels: 3, or 4 with a foreground mask as the fourth. width: of all maps, a multiple of 16.
        stacks: number of hourglasses. depth: poolings in each. reduction: 2 (stride-2 stem) or 4 (one more pooling).

    H and W must be multiples of ``reduction * 2 ** depth``.
    """

    def __init__(self, channels: int = 3, width: int = 256, stacks: int = 4, depth: int = 2, reduction: int = 2):
        super().__init__()
        self.reduction = reduction
        mean, std = (tuple(values) + fill for values, fill in ((IMAGE_MEAN, (0.0,)), (IMAGE_STD, (1.0,))))
        self.register_buffer("mean", torch.tensor(mean[:channels])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std[:channels])[:, None, None], persistent=False)
        self.stem = nn.Sequential(nn.Conv2d(channels, width // 4, 7, 2, 3), norm(width // 4), nn.ReLU())
        self.early = ConvBlock(width // 4, width // 2)
        self.late = nn.Sequential(ConvBlock(width // 2, width // 2), ConvBlock(width // 2, width))
        self.hourglasses = nn.ModuleList(Hourglass(depth, width) for _ in range(stacks))
        self.blocks = nn.ModuleList(
            nn.Sequential(ConvBlock(width, width), nn.Conv2d(width, width, 1), norm(width), nn.ReLU()) for _ in range(stacks)
        )
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stacks))
        self.returns = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2 * (stacks - 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.early(self.stem((images - self.mean) / self.std))
        if self.reduction == 4:
            x = F.avg_pool2d(x, 2)
        x = self.late(x)
        maps = []
        for i, (hourglass, block, output) in enumerate(zip(self.hourglasses, self.blocks, self.outputs, strict=True)):
            y = block(hourglass(x))
            maps.append(output(y))
            if i + 1 < len(self.hourglasses):
                x = x + self.returns[2 * i](y) + self.returns[2 * i + 1](maps[-1])
        return maps


class HeatmapNet(nn.Module):
    """A small hourglass that marks 2D points: images [B, 3, H, W] in [0, 1] to heatmaps [B, K, H / 4, W / 4].

    A heatmap is 1 at its point and falls off as a Gaussian (`gaussian_heatmaps`).
    """

    kind = "heatmap"

    def __init__(self, n_points: int, width: int = 64, stacks: int = 1, depth: int = 3):
        super().__init__()
        self.options = {"n_points": n_points, "width": width, "stacks": stacks, "depth": depth}
        self.trunk = StackedHourglass(3, width, stacks, depth, reduction=4)
        self.last = nn.Conv2d(width, n_points, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.relu(self.trunk(images)[-1]))


def pixel_centres(size: int, like: Tensor) -> Tensor:
    """Crop coordinates (size,) in [-1, 1] of the pixel centres of a map of ``size`` pixels."""
    return (2 * torch.arange(size, dtype=like.dtype, device=like.device) + 1) / size - 1


def gaussian_heatmaps(points: Tensor, size: int, sigma: float = 0.05) -> Tensor:
    """Gaussians of height 1 about points.

    Args:
        points: (..., K, 2) crop coordinates in [-1, 1]. size: side of the maps. sigma: in crop coordinates.

    Returns:
        (..., K, size, size).
    """
    centres = pixel_centres(size, points)
    x = torch.exp(-((centres - points[..., :1]) ** 2) / (2 * sigma**2))
    y = torch.exp(-((centres - points[..., 1:]) ** 2) / (2 * sigma**2))
    return y[..., :, None] * x[..., None, :]


def heatmap_peaks(heatmaps: Tensor, window: int = 2) -> tuple[Tensor, Tensor]:
    """Where the maps [..., K, h, w] are highest, to sub-pixel precision: centroid of the positive part about the maximum.

    Returns:
        (..., K, 2) crop coordinates and (..., K) the maximum, which tells how sure the map is.
    """
    h, w = heatmaps.shape[-2:]
    height, index = heatmaps.flatten(-2).max(-1)
    rows = torch.arange(h, device=heatmaps.device)
    columns = torch.arange(w, device=heatmaps.device)
    near_y = (rows - (index // w)[..., None]).abs() <= window
    near_x = (columns - (index % w)[..., None]).abs() <= window
    weight = heatmaps.clamp_min(0) * near_y[..., :, None] * near_x[..., None, :]
    total = weight.sum((-1, -2)).clamp_min(1e-9)
    x = (weight.sum(-2) * pixel_centres(w, heatmaps)).sum(-1) / total
    y = (weight.sum(-1) * pixel_centres(h, heatmaps)).sum(-1) / total
    return torch.stack([x, y], -1), height
