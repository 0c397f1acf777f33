"""What a labelled mesh says about space: signed distances to it, and its silhouettes as foreground masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS = 32


def signed_distances(points: Tensor, vertices: Tensor, normals: Tensor, limit: float) -> Tensor:
    """Signed distances (B, P) of points (B, P, 3) to a dense mesh, positive outside, clamped to +- limit.

    The surface is taken as the tangent planes of its vertices (B, V, 3) with unit normals (B, V, 3), which is exact to the
    square of the vertex spacing over the radius of curvature; inner and outer side are told by the nearest vertex.
    """
    nearest = torch.cdist(points, vertices).argmin(-1, keepdim=True).expand(-1, -1, 3)
    offset = points - vertices.gather(1, nearest)
    height = (offset * normals.gather(1, nearest)).sum(-1)
    far = offset.norm(dim=-1)
    return (torch.where(far < limit, height.abs(), far) * height.sign()).clamp(-limit, limit)


def silhouettes(points: Tensor, size: int) -> Tensor:
    """Masks (..., 1, size, size) in [0, 1] of what dense surface points cover.

    Args:
        points: (..., V, 2) crop coordinates. The mask is computed on a grid of ``CELLS`` cells, closed against holes between
            points, and enlarged.
    """
    cell = ((points + 1) * CELLS / 2).floor().long()
    inside = ((cell >= 0) & (cell < CELLS)).all(-1)
    index = (cell[..., 1] * CELLS + cell[..., 0]).clamp(0, CELLS**2 - 1)
    grid = points.new_zeros(*points.shape[:-2], CELLS**2).scatter_reduce(-1, index, inside.to(points.dtype), "amax")
    grid = grid.reshape(-1, 1, CELLS, CELLS)
    closed = -F.max_pool2d(-F.max_pool2d(grid, 3, 1, 1), 3, 1, 1)
    mask = F.interpolate(closed, size=(size, size), mode="bilinear", align_corners=False)
    return mask.reshape(*points.shape[:-2], 1, size, size)
