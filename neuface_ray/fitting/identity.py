"""One identity for all images of a clip, out of what an encoder says about each of them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads.parameters import HeadParameters

APART_DEG = 30.0
"""Images from directions nearer than this say the same about an identity, errors included."""


def share_identity(
    parameters: HeadParameters, valid: Tensor, fidelity: str = "paper", identity: Tensor | None = None, factor: float = 1.0
) -> HeadParameters:
    """One identity (1, 1, S) for all images.

    Args:
        parameters: (F, V, .). valid: (F, V). fidelity: ``paper`` takes the mean over valid images times ``factor``, see
            :func:`shrinkage_correction`; ``official_code`` that of the first image. identity: (1, 1, S) to take as it is.
    """
    if identity is not None:
        return replace(parameters, identity=identity)
    if fidelity == "official_code":
        return replace(parameters, identity=parameters.identity[:1, :1])
    weight = valid.to(parameters.identity.dtype)[..., None]
    mean = (weight * parameters.identity).sum((0, 1), keepdim=True) / weight.sum().clamp_min(1)
    return replace(parameters, identity=factor * mean)


def shrinkage_correction(directions: int, snr: float) -> float:
    """By how much the mean of identities, each estimated from one image, is to be drawn away from the mean head.

    What a network trained on distances estimates from one image is on average ``s / (1 + s)`` times the truth, where ``s``,
    the ``snr``, is its signal-to-noise ratio: in doubt it answers with the mean head. ``n`` images with independent errors
    leave less doubt, and their best answer is ``n s / (1 + n s)`` times the truth. The factor is the quotient: 1 for one image,
    or without noise. (Gaussian prior and errors; ours, the paper averages.)
    """
    if math.isinf(snr):
        return 1.0
    count = max(directions, 1)
    return count * (1 + snr) / (1 + count * snr)


def clip_shrinkage_correction(pose: Tensor, valid: Tensor, snr: float) -> float:
    """:func:`shrinkage_correction` for a clip of poses (F, V, 15), valid (F, V), that an encoder of that ``snr`` has read."""
    return shrinkage_correction(distinct_directions(pose, valid), snr)


@torch.no_grad()
def distinct_directions(pose: Tensor, valid: Tensor, apart_deg: float = APART_DEG) -> int:
    """From how many directions a head is seen that are at least ``apart_deg`` apart: first the one farthest
    from their mean, then always the one farthest from those chosen; the order of the images does not matter.

    Args:
        pose: (F, V, 15) axis-angles, of which the first is the root's. valid: (F, V).
    """
    towards = rotvec_to_matrix(pose[valid][:, :3])[:, 2]
    if not len(towards):
        return 0
    nearest, count = towards @ towards[(towards @ towards.mean(0)).argmin()], 1
    while nearest.min() < math.cos(math.radians(apart_deg)):
        nearest = torch.maximum(nearest, towards @ towards[nearest.argmin()])
        count += 1
    return count
