"""Where the labelled mesh lies in a sample's views: targets of the descent networks from head parameters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads import HeadModel
from neuface_ray.methods.lvd.network import CANONICAL_SCALE, apply_similarity, compose, invert

Batch = dict[str, Tensor]
TYPICAL_SCALE, TYPICAL_SHIFT = 10.0, (0.0, 0.2, 0.0)
"""Half crops in a metre, and where the origin of the head lies in a crop, in the average picture."""


class Targets(NamedTuple):
    """Truth of a batch in the reference frame of `neuface_ray.methods.lvd.network`.

    Args:
        vertices: (B, V, 3). to_view: (B, N, 3, 4). valid: (B, N) bool. metres: (B,) length of one unit.
    """

    vertices: Tensor
    to_view: Tensor
    valid: Tensor
    metres: Tensor


def head_to_view(head: HeadModel, batch: Batch) -> Tensor:
    """Similarities (B, N, 3, 4) from the unposed head frame (metres) to each view's frame (units of half a crop).

    A view shows ``scale (R (x - root) + root + [tx, ty, 0])``.
    """
    root = head.joints(batch["shape"][:, :1])[..., 0, :]
    rotation = rotvec_to_matrix(batch["pose"][..., :3])
    camera = batch["camera"]
    shift = torch.cat([camera[..., 1:], torch.zeros_like(camera[..., :1])], -1)
    offset = root - (rotation @ root[..., None])[..., 0] + shift
    return camera[..., :1, None] * torch.cat([rotation, offset[..., None]], -1)


def locate(head: HeadModel, batch: Batch, placed: Tensor, canonical: bool) -> Targets:
    """Targets of a batch.

    Args:
        batch: ``shape`` [B, N, S], ``expression`` [B, N, E], ``pose`` [B, N, 15], ``camera`` [B, N, 3], ``view_valid`` [B, N];
            the mesh is that of the first view. placed: (B, N, 3, 4) from the head frame to the views, as `head_to_view` gives,
            after augmentation. canonical: the reference frame is the head's, scaled, instead of the first view's.
    """
    pose = torch.cat([torch.zeros_like(batch["pose"][:, 0, :3]), batch["pose"][:, 0, 3:]], -1)
    moving = pose[:, 3:].abs().sum() > 0
    vertices = head(batch["shape"][:, 0], batch["expression"][:, 0], pose if moving else None)
    reference = placed[:, 0]
    if canonical:
        reference = CANONICAL_SCALE * torch.eye(3, 4, dtype=placed.dtype, device=placed.device).expand_as(reference)
    to_view = compose(placed, invert(reference)[:, None])
    scale = reference[..., :3].square().sum((-1, -2)).div(3).sqrt()
    return Targets(apply_similarity(reference, vertices), to_view, batch["view_valid"], 1 / scale)


def typical_place(points: Tensor, canonical: bool) -> Tensor:
    """Where points (..., 3) of the resting head, metres, lie in the reference frame of an average picture."""
    if canonical:
        return CANONICAL_SCALE * points
    return TYPICAL_SCALE * points + points.new_tensor(TYPICAL_SHIFT)
