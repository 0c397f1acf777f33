"""The sparse surface points that guide a descent: combinations of the 68 landmarks, on a head and in an image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuface_ray.heads import HeadModel
from neuface_ray.media.crop import IBUG_FROM_MEDIAPIPE
from neuface_ray.methods.heatmap.settings import SETS


def combination(count: int) -> np.ndarray:
    """(count, 68) matrix that makes keypoints of the 68 landmarks; raises KeyError unless count is in ``SETS``."""
    matrix = np.zeros((count, 68), np.float32)
    for row, members in zip(matrix, SETS[count], strict=True):
        row[list(members)] = 1 / len(members)
    return matrix


def surface_keypoints(head: HeadModel, vertices: Tensor, count: int) -> Tensor:
    """Keypoints (..., count, 3) on a head's vertices (..., N, 3), by its fixed 68-point embedding."""
    points = head.landmarks(vertices, "ibug68")
    return torch.from_numpy(combination(count)).to(points) @ points


def image_keypoints(landmarks: np.ndarray, count: int) -> np.ndarray:
    """Keypoints (..., count, 2) in an image from a detector's 478 or 68 landmarks (..., L, 2)."""
    if landmarks.shape[-2] == 478:
        landmarks = landmarks[..., IBUG_FROM_MEDIAPIPE, :]
    return combination(count) @ landmarks.astype(np.float32)
