"""ResNet-50 with torchvision's parameter names, so that ImageNet's and DECA's files load without torchvision installed.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the stride sits on the 3x3 convolution
("ResNet v1.5").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3, 1x1 expand with a residual path: [B, C, H, W] to [B, 4 width, H / stride, W / stride]."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != width * EXPANSION:
            shortcut = nn.Conv2d(channels, width * EXPANSION, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width * EXPANSION))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """The convolutional part of ResNet-50 and its average pool: [B, 3, H, W] to [B, 2048].

    ``stages`` names its five sequential pieces: ``conv1`` (with pooling) and ``layer1`` to ``layer4`` (with the average).
    """

    n_features = 512 * EXPANSION
    stages = ("conv1", "layer1", "layer2", "layer3", "layer4")

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _layer(64, 64, blocks=3, stride=1)
        self.layer2 = _layer(256, 128, blocks=4, stride=2)
        self.layer3 = _layer(512, 256, blocks=6, stride=2)
        self.layer4 = _layer(1024, 512, blocks=3, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def run(self, stage: str, x: Tensor) -> Tensor:
        """Applies one of ``stages``."""
        if stage == "conv1":
            return self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = getattr(self, stage)(x)
        return torch.flatten(x.mean((2, 3)), 1) if stage == "layer4" else x

    def stage_modules(self, stage: str) -> list[nn.Module]:
        """The submodules with parameters that ``run(stage, ...)`` uses."""
        return [self.conv1, self.bn1] if stage == "conv1" else [getattr(self, stage)]

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = self.run(stage, x)
        return x


def _layer(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(width * EXPANSION, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(channels, width, stride), *rest)


def freeze_batchnorm(module: nn.Module) -> None:
    """Keep every batch normalisation below ``module`` at its stored statistics, without gradients; call it after ``train``."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval().requires_grad_(False)
