"""The E-step of NeuFace: the orientations that the M-step then pulls the predictions towards.

The target of the multi-view term is :func:`neuface_ray.geometry.visibility.fuse_views`.
Source: NeuFace (Youwang et al., CVPR 2023), Eq. 3, and the behaviour of its released code where ``mode`` says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuface_ray.geometry.rotations import align_hemisphere


def smoothed_quaternions(quaternion: Tensor, valid: Tensor, mode: str = "paper") -> Tensor:
    """Moving average of head orientations along time.

    Args:
        quaternion: (F, V, 4) unit quaternions. valid: (F, V); invalid frames do not enter any average.
        mode: ``paper`` averages the centred window t-2..t+2, truncated at the ends, after flipping signs into one hemisphere,
            and is detached. ``released`` averages t-2..t+1 without flipping, leaves two frames at each end as they are, and
            lets gradients through.

    Returns:
        (F, V, 4) unit quaternions; the input where no neighbour is valid.
    """
    if mode not in ("paper", "released"):
        raise ValueError(f"mode must be 'paper' or 'released', not {mode!r}")
    offsets = range(-2, 3) if mode == "paper" else range(-2, 2)
    values = align_hemisphere(quaternion, 0) if mode == "paper" else quaternion
    weight = valid.to(values.dtype)[..., None]
    total, count = torch.zeros_like(values), torch.zeros_like(weight)
    frames = values.shape[0]
    for offset in offsets:
        here = slice(max(0, -offset), max(0, min(frames, frames - offset)))
        there = slice(max(0, offset), max(0, min(frames, frames + offset)))
        total[here] = total[here] + (weight * values)[there]
        count[here] = count[here] + weight[there]
    averaged = torch.nn.functional.normalize(total, dim=-1)
    averaged = torch.where(count > 0, averaged, values)
    if mode == "released":
        inner = torch.zeros(frames, dtype=torch.bool, device=values.device)
        inner[2 : max(2, frames - 2)] = True
        return torch.where(inner[:, None, None], averaged, quaternion)
    sign = torch.where((averaged * quaternion).sum(-1, keepdim=True) < 0, -1.0, 1.0).to(values.dtype)
    return (averaged * sign).detach()


def low_passed(values: Tensor, valid: Tensor, strength: float) -> Tensor:
    """Values (F, V, C) smoothed along time by a Gaussian that looks both ways and at valid frames alone.

    Args:
        valid: (F, V). strength: standard deviation of the Gaussian, frames.

    Returns:
        (F, V, C); where no valid frame lies within four standard deviations, the value itself.
    """
    frames = torch.arange(len(values), device=values.device, dtype=values.dtype)
    apart = (frames[:, None] - frames) / strength
    weight = torch.where(apart.abs() <= 4, torch.exp(-(apart**2) / 2), 0.0)
    share = torch.einsum("fg,gv->fgv", weight, valid.to(values.dtype))
    total = share.sum(1)[..., None]
    smooth = torch.einsum("fgv,gvc->fvc", share, values) / total.clamp_min(1e-12)
    return torch.where(total > 0, smooth, values)
