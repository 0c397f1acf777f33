"""Rigid and similarity alignment of corresponding points (weighted Procrustes), batched, for torch and numpy alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray


class Alignment(NamedTuple):
    """``y = scale * rotation @ x + translation``: rotation (..., 3, 3), translation (..., 3), scale (...)."""

    rotation: Array
    translation: Array
    scale: Array

    def apply(self, points: Array) -> Array:
        """Moves points (..., N, 3)."""
        turned = points @ self.rotation.swapaxes(-1, -2)
        return self.scale[..., None, None] * turned + self.translation[..., None, :]


def rigid(source: Array, target: Array, weights: Array | None = None) -> Alignment:
    """Rotation and translation that bring source points nearest to their targets in the weighted least-squares sense.

    Args:
        source, target: (..., N, 3). weights: (..., N) or (N,), non-negative, one if None.

    Returns:
        `Alignment` with unit scale; always a proper rotation, also for mirrored or flat point sets. Computed in float64 and
        returned in the source's type.

    Raises:
        ValueError: the weights sum to zero.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    return _procrustes(source, target, weights, with_scale=False)


def similarity(source: Array, target: Array, weights: Array | None = None) -> Alignment:
    """As `rigid`, with the least-squares scale (Umeyama 1991, eq. 42)."""
    return _procrustes(source, target, weights, with_scale=True)


def _procrustes(source: Array, target: Array, weights: Array | None, with_scale: bool) -> Alignment:
    if isinstance(source, np.ndarray):
        weights = None if weights is None else torch.as_tensor(np.asarray(weights, np.float64))
        result = _procrustes(torch.from_numpy(np.array(source)), torch.from_numpy(np.array(target)), weights, with_scale)
        return Alignment(*(value.numpy() for value in result))
    x, y = source.double(), target.double()
    w = x.new_ones(x.shape[-2]) if weights is None else weights.double()
    total = w.sum(-1, keepdim=True)
    if not (total > 0).all():
        raise ValueError("alignment weights sum to zero")
    w = (w / total)[..., None]
    x_mean, y_mean = (w * x).sum(-2, keepdim=True), (w * y).sum(-2, keepdim=True)
    x, y = x - x_mean, y - y_mean
    u, singular, vt = torch.linalg.svd((w * x).transpose(-1, -2) @ y)
    v = vt.transpose(-1, -2)
    sign = torch.linalg.det(v @ u.transpose(-1, -2)).sign()
    signs = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    rotation = (v * signs[..., None, :]) @ u.transpose(-1, -2)
    scale = torch.ones_like(sign)
    if with_scale:
        scale = (singular * signs).sum(-1) / (w * x * x).sum((-1, -2)).clamp_min(torch.finfo(x.dtype).tiny)
    translation = y_mean - scale[..., None, None] * (x_mean @ rotation.transpose(-1, -2))
    return Alignment(*(value.to(source.dtype) for value in (rotation, translation[..., 0, :], scale)))
