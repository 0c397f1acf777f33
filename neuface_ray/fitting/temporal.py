"""The E-step of NeuFace: the orientations that the M-step then pulls the predictions towards.

The target of the multi-view term is :func:`neuface_ray.geometry.visibility.fuse_views`.
Source: NeuFace (Youwang et al., CVPR 2023), Eq. 3, and the behaviour of its official code where ``mode`` says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neuface_ray.geometry.rotations import align_hemisphere

REACH = 2
SIGMAS = 4
"""Standard deviations at which the Gaussian of :func:`low_passed` is cut off."""
_SECOND_DIFFERENCE = (1.0, -2.0, 1.0)


def smoothed_quaternions(quaternion: Tensor, valid: Tensor, mode: str = "paper", order: int = 0) -> Tensor:
    """Moving average of head orientations along time.

    Args:
        quaternion: (F, V, 4) unit quaternions. valid: (F, V); invalid frames do not enter any average.
        mode: ``paper`` averages the centred window t-2..t+2, truncated at the ends, after flipping signs into one hemisphere,
            and is detached. ``official_code`` averages t-2..t+1 without flipping, leaves two frames at each end as they are,
            and lets gradients through.
        order: in paper form, 0 for the paper's average, which, followed again and again, flattens every turn of a head, or 2
            for a local quadratic, which lets turns be, see :func:`window_weights`.

    Returns:
        (F, V, 4) unit quaternions; the input where no neighbour is valid.
    """
    if mode not in ("paper", "official_code"):
        raise ValueError(f"mode must be 'paper' or 'official_code', not {mode!r}")
    if order not in (0, 2):
        raise ValueError(f"order must be 0 or 2, not {order!r}")
    if mode == "official_code":
        return _official_average(quaternion, valid)
    values = align_hemisphere(quaternion, 0)
    weight = window_weights(valid, order).to(values.dtype)
    total, frames = torch.zeros_like(values), values.shape[0]
    for offset in range(-REACH, REACH + 1):
        here, there = _overlap(frames, offset)
        total[here] = total[here] + weight[here, offset + REACH, :, None] * values[there]
    found = (weight != 0).any(1)[..., None]
    averaged = torch.where(found, torch.nn.functional.normalize(total, dim=-1), values)
    sign = torch.where((averaged * quaternion).sum(-1, keepdim=True) < 0, -1.0, 1.0).to(values.dtype)
    return (averaged * sign).detach()


def window_weights(valid: Tensor, order: int) -> Tensor:
    """Weights (F, 5, V), float64, of the frames t-2..t+2 in the target of frame t; they sum to 1 where anything is valid.

    Order 2 follows from the energy that its pull lowers, the squared second differences of three valid frames in a row: it is
    Savitzky and Golay's quadratic (1964), (-3, 12, 17, 12, -3) / 35, wherever its five frames are there, and weaker beside gaps
    and ends. Polynomials fitted to cut windows would not be the gradient of anything, and optimisers run away along such
    fields.

    Args:
        valid: (F, V); other frames and those beyond the ends get 0. order: 0 or 2.
    """
    frames = valid.shape[0]
    weight = valid.new_zeros((frames, 2 * REACH + 1, valid.shape[1]), dtype=torch.float64)
    if order == 0:
        for offset in range(-REACH, REACH + 1):
            here, there = _overlap(frames, offset)
            weight[here, offset + REACH] = valid[there].double()
        return weight / weight.sum(1, keepdim=True).clamp_min(1)
    weight[:, REACH] = valid.double()
    triples = (valid[2:] & valid[1:-1] & valid[:-2]).double()
    for row, a in enumerate(_SECOND_DIFFERENCE):
        for column, b in enumerate(_SECOND_DIFFERENCE):
            weight[row : row + len(triples), REACH + column - row] -= 3 / 35 * a * b * triples
    return weight


def _overlap(frames: int, offset: int) -> tuple[slice, slice]:
    """The frames t for which t + offset exists, and those frames t + offset."""
    here = slice(max(0, -offset), max(0, min(frames, frames - offset)))
    return here, slice(max(0, offset), max(0, min(frames, frames + offset)))


def _official_average(quaternion: Tensor, valid: Tensor) -> Tensor:
    """The average t-2..t+1 of the official code, with gradients, without signs, and with two untouched frames at each end."""
    weight = valid.to(quaternion.dtype)[..., None]
    total, count, frames = torch.zeros_like(quaternion), torch.zeros_like(weight), quaternion.shape[0]
    for offset in range(-2, 2):
        here, there = _overlap(frames, offset)
        total[here] = total[here] + (weight * quaternion)[there]
        count[here] = count[here] + weight[there]
    averaged = torch.where(count > 0, torch.nn.functional.normalize(total, dim=-1), quaternion)
    inner = torch.zeros(frames, dtype=torch.bool, device=quaternion.device)
    inner[2 : max(2, frames - 2)] = True
    return torch.where(inner[:, None, None], averaged, quaternion)


def low_passed(values: Tensor, valid: Tensor, strength: float) -> Tensor:
    """Values (F, V, C) smoothed along time by a Gaussian that looks both ways and at valid frames alone.

    Args:
        valid: (F, V). strength: standard deviation of the Gaussian, frames.

    Returns:
        (F, V, C); where no valid frame lies within four standard deviations, the value itself.
    """
    frames = torch.arange(len(values), device=values.device, dtype=values.dtype)
    apart = (frames[:, None] - frames) / strength
    weight = torch.where(apart.abs() <= SIGMAS, torch.exp(-(apart**2) / 2), 0.0)
    share = torch.einsum("fg,gv->fgv", weight, valid.to(values.dtype))
    total = share.sum(1)[..., None]
    smooth = torch.einsum("fgv,gvc->fvc", share, values) / total.clamp_min(1e-12)
    return torch.where(total > 0, smooth, values)
