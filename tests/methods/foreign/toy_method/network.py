"""The toy network."""

from __future__ import annotations

from torch import Tensor, nn


class ToyNetwork(nn.Module):
    """Linear from the mean colour of pictures (B, 3, H, W) in [0, 1] to identity coefficients (B, n_shape)."""

    kind = "toy"

    def __init__(self, n_shape: int, crop_size: int):
        super().__init__()
        self.options = {"n_shape": n_shape, "crop_size": crop_size}
        self.crop_size = crop_size
        self.linear = nn.Linear(3, n_shape)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.linear(pictures.mean((-2, -1)))
