"""Closed-form starting values: head pose and camera from landmarks by scaled orthography."""

from __future__ import annotations

import torch
from torch import Tensor


def scaled_orthography(points: Tensor, observed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and weak-perspective camera that best carry 3D points to their observed crop positions.

    The affine map is solved by weighted least squares and replaced by the nearest scaled rotation (the one-step solution of
    POSIT's problem under scaled orthography; DeMenthon and Davis, IJCV 1995).

    Args:
        points: (..., L, 3) head points, metres, not all in one plane. observed: (..., L, 2) crop coordinates.
        weight: (..., L) non-negative.

    Returns:
        Rotation (..., 3, 3) and camera (..., 3) as scale, tx, ty, such that
        ``u = scale (x + tx), v = -scale (y + ty)`` with ``(x, y) = (rotation @ point)[:2]``. Batches whose weights
        sum to zero get the identity and a unit camera.
    """
    total = weight.sum(-1, keepdim=True)
    observable = total > 0
    share = (weight / total.clamp_min(1e-12))[..., None]
    centre_3d, centre_2d = (share * points).sum(-2), (share * observed).sum(-2)
    x = (points - centre_3d[..., None, :]) * share.sqrt()
    u = (observed - centre_2d[..., None, :]) * share.sqrt() * observed.new_tensor([1.0, -1.0])
    ridge = 1e-9 * torch.eye(3, dtype=points.dtype, device=points.device)
    affine = torch.linalg.solve(x.transpose(-1, -2) @ x + ridge, x.transpose(-1, -2) @ u).transpose(-1, -2)
    affine = torch.where(observable[..., None], affine, torch.eye(2, 3, dtype=points.dtype, device=points.device))
    left, singular, right = torch.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    rotation = torch.cat([rows, torch.linalg.cross(rows[..., :1, :], rows[..., 1:, :])], -2)
    scale = singular.mean(-1)
    offset = centre_2d / scale[..., None] * observed.new_tensor([1.0, -1.0]) - (rows @ centre_3d[..., None]).squeeze(-1)
    camera = torch.cat([scale[..., None], offset], -1)
    return rotation, torch.where(observable, camera, camera.new_tensor([1.0, 0.0, 0.0]))


def fill_invalid(values: Tensor, valid: Tensor) -> Tensor:
    """Replaces the values of invalid frames by linear interpolation in time between the nearest valid ones.

    Args:
        values: (F, V, C). valid: (F, V) bool.

    Returns:
        (F, V, C); views without any valid frame are returned as they are.
    """
    filled = values.clone()
    time = torch.arange(values.shape[0], device=values.device)
    for view in range(values.shape[1]):
        known = time[valid[:, view]]
        if len(known) == 0 or len(known) == len(time):
            continue
        after = torch.searchsorted(known, time).clamp(max=len(known) - 1)
        before = (torch.searchsorted(known, time, right=True) - 1).clamp(min=0)
        span = (known[after] - known[before]).clamp_min(1)
        share = ((time - known[before]) / span).clamp(0, 1).to(values.dtype)[:, None]
        filled[:, view] = torch.lerp(values[known[before], view], values[known[after], view], share)
    return filled
