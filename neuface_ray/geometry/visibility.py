"""Which vertices a view sees: the soft confidence that NeuFace fuses views with, and exact visibility by ray casting."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuface_ray.geometry.mesh import vertex_normals
from neuface_ray.geometry.rays import HeadCamera, RayCaster

MIN_COSINE = 0.28
MIN_DEPTH = -0.08
TEMPERATURE = 0.1
_UNSEEN = -100.0
_OFFSET = 1e-4


def view_confidence(
    vertices: Tensor,
    faces: Tensor,
    min_cosine: float = MIN_COSINE,
    min_depth: float = MIN_DEPTH,
    towards_viewer: Tensor | None = None,
) -> Tensor:
    """How well a view sees each vertex: the cosine between normal and viewing direction, 0 where it is turned away or far back.

    Args:
        vertices: (..., N, 3) posed, in the view frame with the head's origin at 0, metres. faces: (T, 3).
        min_cosine: smaller cosines count as unseen. min_depth: vertices with a smaller z (metres) count as unseen.
        towards_viewer: (..., N, 3) unit vectors for a perspective camera; the z axis if None.

    Returns:
        (..., N) in [0, 1]. Source: NeuFace (CVPR 2023) section 3.2, and the constants of its official code.
    """
    normals = vertex_normals(vertices, faces)
    cosine = normals[..., 2] if towards_viewer is None else (normals * towards_viewer).sum(-1)
    seen = (cosine >= min_cosine) & (vertices[..., 2] >= min_depth)
    return torch.where(seen, cosine, torch.zeros_like(cosine))


def view_weights(confidence: Tensor, valid: Tensor | None = None, temperature: float = TEMPERATURE) -> Tensor:
    """Softmax over views of the confidences; a vertex that no view sees gets equal weights.

    Args:
        confidence: (..., V, N) from `view_confidence`. valid: bool (..., V), views that count (None: all).

    Returns:
        (..., V, N), summing to 1 over V; all 0 where no view is valid.
    """
    logits = torch.where(confidence > 0, confidence, torch.full_like(confidence, _UNSEEN)) / temperature
    if valid is None:
        return logits.softmax(-2)
    logits = logits.masked_fill(~valid[..., None], -torch.inf)
    return torch.where(valid[..., None], logits.softmax(-2), torch.zeros_like(logits))


def fuse_views(vertices: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over views: vertices (..., V, N, 3) and weights (..., V, N) to (..., N, 3)."""
    return (vertices * weights[..., None]).sum(-3)


def visible_points(points: np.ndarray, normals: np.ndarray, caster: RayCaster, camera: HeadCamera) -> np.ndarray:
    """Exact visibility of surface points: they face the camera and nothing lies between.

    Args:
        points: (P, 3) on the mesh of ``caster``, in the view frame. normals: (P, 3) unit normals there.

    Returns:
        bool (P,).
    """
    towards = camera.towards_viewer(points)
    facing = (normals * towards).sum(-1) > 0
    visible = np.zeros(len(points), bool)
    start = points[facing] + _OFFSET * caster.size * (normals[facing] + towards[facing])
    visible[facing] = ~caster.blocked(start, towards[facing])
    return visible
