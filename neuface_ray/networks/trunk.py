"""Convolutional trunks that turn a face crop into a feature map, to build the networks of several methods on.

Sources: the compact stages are the project's own; ResNet-50 (He et al., CVPR 2016) and AlexNet (Krizhevsky et al., NeurIPS
2012, in the one-column form of "One weird trick", 2014) are written from the papers.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from neuface_ray.errors import UsageError
from neuface_ray.networks.hourglass import IMAGE_MEAN, IMAGE_STD
from neuface_ray.networks.resnet import ResNet50, freeze_batchnorm
from neuface_ray.networks.weight_file import load_strict, read_tensors

WIDTHS, DEPTHS, STEM_WIDTH = (48, 96, 192, 320), (2, 2, 2, 2), 24
PACKAGED_COMPACT = Path(str(files("neuface_ray"))) / "assets" / "compact_encoder.safetensors"


class Trunk(nn.Module):
    """Images (B, 3, S, S) in [0, 1] to feature maps (B, ``channels``, S / stride, S / stride).

    ``compact``: 320 channels, stride 32 (4 x 4 of 128 px); ``resnet50``: 2,048, stride 32; ``alexnet``: 256, stride 32.

    Args:
        init: ``fresh`` random weights, or ``packaged``: the stem and stages of the packaged compact encoder.
        frozen_to: the last of the ``stages`` whose weights stay as they are; None: all of them are trained.

    BatchNorm layers always use their stored statistics and are not trained.

    Raises:
        UsageError: no such kind, init or stage, or nothing is packaged for the kind.
    """

    def __init__(self, kind: str = "compact", init: str = "fresh", frozen_to: str | None = None):
        super().__init__()
        if kind not in _KINDS:
            raise UsageError(f"there is no trunk {kind!r}; choose one of {', '.join(_KINDS)}")
        build, self.channels, mean, std = _KINDS[kind]
        self.kind = kind
        for name, stage in build().items():
            self.add_module(name, stage)
        self.stages = tuple(name for name, _ in self.named_children())
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        if init not in ("fresh", "packaged"):
            raise UsageError(f"init of a trunk is fresh or packaged, not {init!r}")
        if init == "packaged":
            self._load_packaged()
        if frozen_to is not None and frozen_to not in self.stages:
            raise UsageError(f"trunk {kind} has no stage {frozen_to!r} to freeze; it has {', '.join(self.stages)}")
        last = -1 if frozen_to is None else self.stages.index(frozen_to)
        for name in self.stages[: last + 1]:
            getattr(self, name).requires_grad_(False)
        freeze_batchnorm(self)

    def forward(self, images: Tensor) -> Tensor:
        x = (images - self.mean) / self.std
        for name in self.stages:
            x = getattr(self, name)(x)
        return x

    def train(self, mode: bool = True) -> Trunk:
        super().train(mode)
        freeze_batchnorm(self)
        return self

    def _load_packaged(self) -> None:
        if self.kind != "compact":
            raise UsageError(f"no weights are packaged for the trunk {self.kind}; only for compact")
        state = read_tensors(PACKAGED_COMPACT)
        load_strict(self, {k: v for k, v in state.items() if k.split(".")[0] in self.stages}, PACKAGED_COMPACT)


def compact_stages() -> dict[str, nn.Sequential]:
    """Build the stages ``stem`` and ``stage1`` to ``stage4`` of the compact trunk: dense 3x3 convolutions with GroupNorm."""
    stages = {"stem": nn.Sequential(*_conv(3, STEM_WIDTH, 5), *_conv(STEM_WIDTH, WIDTHS[0], 3))}
    channels = WIDTHS[0]
    for i, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        blocks = [_Block(channels if b == 0 else width, width, 2 if b == 0 and i > 0 else 1) for b in range(depth)]
        stages[f"stage{i + 1}"] = nn.Sequential(*blocks)
        channels = width
    return stages


def _resnet50_stages() -> dict[str, nn.Sequential]:
    net = ResNet50()
    first = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return {"stem": first} | {f"stage{i}": getattr(net, f"layer{i}") for i in range(1, 5)}


def _alexnet_stages() -> dict[str, nn.Sequential]:
    shapes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
    stages = {}
    for number, shape in enumerate(shapes, 1):
        layers = [nn.Conv2d(*shape), nn.ReLU(inplace=True)]
        stages[f"stage{number}"] = nn.Sequential(*layers, *([nn.MaxPool2d(3, 2)] if number in (1, 2, 5) else []))
    return stages


_KINDS = {
    "compact": (compact_stages, WIDTHS[-1], (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    "resnet50": (_resnet50_stages, ResNet50.n_features, IMAGE_MEAN, IMAGE_STD),
    "alexnet": (_alexnet_stages, 256, IMAGE_MEAN, IMAGE_STD),
}


def _conv(channels: int, width: int, kernel: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(channels, width, kernel, 2, kernel // 2, bias=False)
    yield nn.GroupNorm(8, width)
    yield nn.ReLU(inplace=True)


class _Block(nn.Module):
    """Two 3x3 convolutions with GroupNorm and a residual path; halves the resolution when ``stride`` is 2."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, width)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut = None
        if channels != width or stride != 1:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(channels, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return torch.relu(out + (x if self.shortcut is None else self.shortcut(x)))
