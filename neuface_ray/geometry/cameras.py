"""Weak-perspective and calibrated cameras, and the way between crop and image; any leading batch dimensions.

The *view frame* of a head is x right in the image, y up, z towards the viewer; OpenCV's camera frame is x right, y down,
z forward. They differ by the signs of y and z. Crop coordinates are [-1, 1] with y down.
"""

from __future__ import annotations

import torch
from torch import Tensor


def project_weak(points: Tensor, camera: Tensor) -> Tensor:
    """Weak-perspective projection ``u = s (x + tx), v = -s (y + ty)`` (DECA's camera).

    Args:
        points: (..., N, 3) in the view frame, metres.
        camera: (..., 3) scale, tx, ty in crop coordinates.

    Returns:
        (..., N, 2) crop coordinates.
    """
    shifted = (points[..., :2] + camera[..., None, 1:]) * camera[..., None, :1]
    return shifted * shifted.new_tensor([1.0, -1.0])


def nearest_weak_camera(points: Tensor, observed: Tensor, weight: Tensor | None = None) -> Tensor:
    """The weak-perspective camera that brings points nearest to their places in the crop, by weighted least squares.

    The points' orientation is given; :func:`neuface_ray.fitting.closed_form.scaled_orthography` finds it as well.

    Args:
        points: (..., N, 3) in the view frame, metres. observed: (..., N, 2) crop coordinates.
        weight: (..., N) non-negative; all alike if None.

    Returns:
        (..., 3) scale, tx, ty. The scale is negative for a mirrored picture, and 0, with offsets that are not finite, where all
        weights are 0.
    """
    weight = torch.ones_like(points[..., 0]) if weight is None else weight
    share = (weight / weight.sum(-1, keepdim=True).clamp_min(1e-9))[..., None]
    flat, image = points[..., :2], observed * observed.new_tensor([1.0, -1.0])
    flat_mean, image_mean = (share * flat).sum(-2), (share * image).sum(-2)
    centred = share * (flat - flat_mean[..., None, :])
    scale = (centred * (image - image_mean[..., None, :])).sum((-1, -2)) / (centred * flat).sum((-1, -2)).clamp_min(1e-12)
    return torch.cat([scale[..., None], image_mean / scale[..., None] - flat_mean], -1)


def project_pinhole(points: Tensor, translation: Tensor, intrinsics: Tensor) -> Tensor:
    """Perspective projection of points given in the view frame.

    Args:
        points: (..., N, 3) posed head vertices, metres. translation: (..., 3) head position in the view frame (z < 0 lies
            in front of the camera). intrinsics: (..., 3, 3) K, pixels.

    Returns:
        (..., N, 2) image pixels.
    """
    x, y, z = (points + translation[..., None, :]).unbind(-1)
    rays = torch.stack([x, -y, -z], -1)
    projected = rays @ intrinsics.transpose(-1, -2)
    return projected[..., :2] / projected[..., 2:].clamp_min(1e-6)


def view_rotation(world_to_camera: Tensor) -> Tensor:
    """Rotation (..., 3, 3) from world axes to the view frame of a camera with OpenCV extrinsics (..., 4, 4)."""
    flip = world_to_camera.new_tensor([1.0, -1.0, -1.0])
    return flip[:, None] * world_to_camera[..., :3, :3]


def world_to_view(points: Tensor, world_to_camera: Tensor) -> Tensor:
    """Points (..., N, 3) from world coordinates to the view frame of the camera (..., 4, 4)."""
    flip = world_to_camera.new_tensor([1.0, -1.0, -1.0])
    rotated = points @ world_to_camera[..., :3, :3].transpose(-1, -2)
    return (rotated + world_to_camera[..., None, :3, 3]) * flip


def transform_points(points: Tensor, matrix: Tensor) -> Tensor:
    """Applies (..., 3, 3) planar transforms to (..., N, 2) points; used with ``crop_to_image`` and its inverse."""
    homogeneous = points @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]
    return homogeneous[..., :2] / homogeneous[..., 2:]


def weak_from_pinhole(translation: Tensor, intrinsics: Tensor, image_to_crop: Tensor) -> Tensor:
    """The weak-perspective camera that agrees with a calibrated one at the head's origin.

    Args:
        translation: (..., 3) head position in the view frame, metres. intrinsics: (..., 3, 3) pixels.
        image_to_crop: (..., 3, 3) similarity without rotation from pixels to crop coordinates.

    Returns:
        (..., 3) scale, tx, ty.
    """
    depth = -translation[..., 2]
    scale = image_to_crop[..., 0, 0] * intrinsics[..., 0, 0] / depth
    origin = torch.zeros_like(translation)[..., None, :]
    centre = transform_points(project_pinhole(origin, translation, intrinsics), image_to_crop)[..., 0, :]
    return torch.stack([scale, centre[..., 0] / scale, -centre[..., 1] / scale], -1)
