"""Rotations as axis-angle vectors, matrices and unit quaternions; any leading batch dimensions, differentiable everywhere.

Quaternions are (w, x, y, z). Matrices act on column vectors. All angles are radians.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL_ANGLE_SQUARED = 1e-6


def rotvec_to_matrix(rotvec: Tensor) -> Tensor:
    """Rotation matrices of axis-angle vectors (Rodrigues' formula).

    Args:
        rotvec: (..., 3) rotation axis times angle.

    Returns:
        (..., 3, 3). Value and gradient are exact to rounding at zero rotation, where the sine and cosine quotients are
        replaced by their Taylor expansions.
    """
    squared = (rotvec * rotvec).sum(-1)
    small = squared < _SMALL_ANGLE_SQUARED
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - squared / 6 + squared**2 / 120, angle.sin() / angle)
    # (1 - cos) / angle^2 by the half angle, which loses no digits where the cosine is near one.
    cosine = torch.where(small, 0.5 - squared / 24 + squared**2 / 720, 2 * (0.5 * angle).sin() ** 2 / safe)
    cross = skew(rotvec)
    identity = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device).expand(cross.shape)
    return identity + sine[..., None, None] * cross + cosine[..., None, None] * (cross @ cross)


def skew(vector: Tensor) -> Tensor:
    """Cross-product matrices: (..., 3) to (..., 3, 3) with ``skew(a) @ b == cross(a, b)``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape, 3)


def rotvec_to_quaternion(rotvec: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of axis-angle vectors (..., 3); smooth at zero rotation."""
    squared = (rotvec * rotvec).sum(-1, keepdim=True)
    small = squared < _SMALL_ANGLE_SQUARED
    half = 0.5 * torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 0.5 - squared / 48 + squared**2 / 3840, half.sin() / (2 * half))
    w = torch.where(small, 1 - squared / 8 + squared**2 / 384, half.cos())
    return torch.cat([w, factor * rotvec], -1)


def quaternion_to_rotvec(quaternion: Tensor) -> Tensor:
    """Axis-angle vectors (..., 3) with angle in [0, pi] of unit quaternions (..., 4); q and -q give the same answer."""
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    squared = (vector * vector).sum(-1, keepdim=True)
    small = squared < _SMALL_ANGLE_SQUARED
    norm = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 2 + squared / 3, 2 * torch.atan2(norm, w) / norm)
    return factor * vector


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4) with w >= 0 of rotation matrices (..., 3, 3).

    The largest of the four components is computed from the diagonal and the rest from it, which is stable for every
    rotation (Shepperd, "Quaternion from rotation matrix", 1978).
    """
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = torch.stack(
        [
            1 + trace,
            1 + 2 * m[..., 0, 0] - trace,
            1 + 2 * m[..., 1, 1] - trace,
            1 + 2 * m[..., 2, 2] - trace,
        ],
        -1,
    )
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], wx, wy, wz], -1),
            torch.stack([wx, squares[..., 1], xy, xz], -1),
            torch.stack([wy, xy, squares[..., 2], yz], -1),
            torch.stack([wz, xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_to_rotvec(matrix: Tensor) -> Tensor:
    """Axis-angle vectors (..., 3) with angle in [0, pi] of rotation matrices (..., 3, 3)."""
    return quaternion_to_rotvec(matrix_to_quaternion(matrix))


def rotation_6d_to_matrix(columns: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) whose first two columns are the orthonormalised halves of (..., 6).

    Source: Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", CVPR 2019.
    """
    first = torch.nn.functional.normalize(columns[..., :3], dim=-1)
    second = columns[..., 3:] - (first * columns[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def mean_rotation(rotation: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of rotations in the chordal sense: the rotation nearest to all of them in the Frobenius norm.

    Args:
        rotation: (..., K, 3, 3). weight: (..., K) non-negative.

    Returns:
        (..., 3, 3); the identity where all weights are 0. Source: Hartley et al., "Rotation Averaging", IJCV 2013, section 5.
    """
    total = (rotation * weight[..., None, None]).sum(-3)
    left, _, right = torch.linalg.svd(total)
    sign = torch.ones_like(total[..., 0])
    sign[..., 2] = torch.linalg.det(left @ right)
    return left * sign[..., None, :] @ right


def align_hemisphere(quaternion: Tensor, dim: int) -> Tensor:
    """Flips signs along ``dim`` so that consecutive quaternions (..., 4) have a non-negative dot product.

    A quaternion and its negative are one rotation; averages over time make sense only within one hemisphere.
    """
    moved = quaternion.movedim(dim, 0)
    dots = (moved[1:] * moved[:-1]).sum(-1, keepdim=True)
    steps = torch.where(dots < 0, -torch.ones_like(dots), torch.ones_like(dots))
    signs = torch.cat([torch.ones_like(moved[:1, ..., :1]), steps]).cumprod(0)
    return (moved * signs).movedim(0, dim)


def yaw_pitch_roll_deg(matrix: Tensor) -> Tensor:
    """Head angles (..., 3) in degrees of (..., 3, 3): R = Ry(yaw) Rx(pitch) Rz(roll).

    Positive yaw turns the face to the subject's left (image right), positive pitch nods down, positive roll turns it
    counter-clockwise in the image. Roll and yaw lie in (-180, 180], pitch in [-90, 90]; at 90 only yaw and roll together count.
    """
    yaw = torch.atan2(matrix[..., 0, 2], matrix[..., 2, 2])
    pitch = torch.asin((-matrix[..., 1, 2]).clamp(-1, 1))
    roll = torch.atan2(matrix[..., 1, 0], matrix[..., 1, 1])
    angles = torch.rad2deg(torch.stack([yaw, pitch, roll], -1))
    return torch.where(angles == -180.0, 180.0, angles)
