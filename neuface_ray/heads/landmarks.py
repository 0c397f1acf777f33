"""Landmarks as points on a head's surface: fixed embeddings and FLAME's pose-dependent face contour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuface_ray.geometry.mesh import interpolate
from neuface_ray.geometry.rotations import rotvec_to_matrix

SCHEMES = {"mediapipe478": 478, "ibug68": 68}
N_CONTOUR = 17
MAX_CONTOUR_YAW_DEG = 39
N_CONTOUR_ROWS = 2 * MAX_CONTOUR_YAW_DEG + 1


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Where a landmark scheme's points lie on a head.

    Args:
        face_index: (L,) int64 triangle of each point. barycentric: (L, 3) coordinates in it, summing to 1.
        valid: (L,) bool; False where the head has no such point (its index and coordinates are then meaningless zeros).
        weight: (L,) in [0, 1]: how far the point is tied to one place of the surface. Points that slide along the
            surface with the view, such as the face oval, have small weights.
    """

    face_index: Tensor
    barycentric: Tensor
    valid: Tensor
    weight: Tensor

    def points(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """Landmarks (..., L, 3) of vertices (..., N, 3) with triangles (T, 3)."""
        return interpolate(vertices, faces, self.face_index, self.barycentric)


@dataclass(frozen=True)
class ContourEmbedding:
    """The 17 jaw-line points of the 68-point scheme for 79 whole-degree yaws (FLAME's dynamic landmarks).

    Args:
        face_index: (79, 17) int64. barycentric: (79, 17, 3). Row r of a yaw y is ``y`` for 0 <= y <= 39 and ``39 - y`` for
            -39 <= y < 0; larger angles take the outermost rows.
    """

    face_index: Tensor
    barycentric: Tensor

    def points(self, vertices: Tensor, faces: Tensor, pose: Tensor) -> Tensor:
        """Contour (..., 17, 3) of posed vertices (..., N, 3) for a pose (..., 3 or more) in the view frame."""
        row = contour_row(pose).expand(vertices.shape[:-2])
        return interpolate(vertices, faces, self.face_index[row], self.barycentric[row])


def contour_row(pose: Tensor) -> Tensor:
    """Row (...) int64 of the dynamic contour for pose vectors (..., 3k): axis-angle of root and, if present, neck.

    The yaw is ``atan2(-R20, sqrt(R00^2 + R10^2))`` of R = R_root R_neck, in whole degrees (DECA's landmark look-up; a
    positive turn about +y, the face to its own left, moves the left points forward).
    """
    rotation = rotvec_to_matrix(pose[..., :3])
    if pose.shape[-1] >= 6:
        rotation = rotation @ rotvec_to_matrix(pose[..., 3:6])
    yaw = torch.atan2(-rotation[..., 2, 0], torch.hypot(rotation[..., 0, 0], rotation[..., 1, 0]))
    degrees = torch.rad2deg(yaw).round().long().clamp(-MAX_CONTOUR_YAW_DEG, MAX_CONTOUR_YAW_DEG)
    return torch.where(degrees >= 0, degrees, MAX_CONTOUR_YAW_DEG - degrees)
