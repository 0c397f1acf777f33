"""Validation scores of the recipes whose networks give meshes: vertex errors of the face under different alignments."""

from __future__ import annotations

import torch
from torch import Tensor

from neuface_ray.geometry.alignment import rigid


def mesh_scores(vertices: Tensor, targets: Tensor, face: Tensor, depth: Tensor | None = None) -> dict[str, Tensor]:
    """Mean vertex errors (B,) of the face, in the unit of the vertices, which have the true scale.

    ``mpve_none_face_mm``: as it lies; ``mpve_image_face_mm``: as it lies in the picture, only depth moved, which weak
    perspective cannot tell; ``mpve_rigid_face_mm``: after rigid alignment.

    Args:
        vertices, targets: (B, N, 3), mm. face: indices of the face's vertices. depth: (B, 3) unit vectors to the viewer; None:
            the z axis.
    """
    found, truth = vertices[:, face].float(), targets[:, face]
    if depth is None:
        depth = truth.new_tensor([0.0, 0.0, 1.0]).expand(len(truth), 3)
    error = found - truth
    along = torch.einsum("bnc,bc->b", error, depth) / error.shape[1]
    moved = error - (along[:, None] * depth)[:, None]
    aligned = rigid(found, truth).apply(found)
    return {
        "mpve_none_face_mm": error.norm(dim=-1).mean(-1),
        "mpve_image_face_mm": moved.norm(dim=-1).mean(-1),
        "mpve_rigid_face_mm": (aligned - truth).norm(dim=-1).mean(-1),
    }
