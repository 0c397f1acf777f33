"""Landmarks of the 68-point scheme: inner points from MediaPipe's, the jaw line from the head's silhouette."""

from __future__ import annotations

import numpy as np

from neuface_ray.heads.build import embedding
from neuface_ray.heads.landmarks import MAX_CONTOUR_YAW_DEG, N_CONTOUR

# MediaPipe points at the same anatomical places as the 68 points 0 to 16 and 17 to 67.
CONTOUR_FROM_MEDIAPIPE = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
INNER_FROM_MEDIAPIPE = (
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)


def contour_rows(static: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, allowed: np.ndarray):
    """Face index (79, 17) and barycentric (79, 17, 3) of the jaw line for yaws 0..39 and -1..-39 degrees.

    ``static`` (17, 3) is the jaw line of the frontal head.
    """
    face_index, barycentric = embedding.embed(static, vertices, triangles, allowed)
    rows = 2 * MAX_CONTOUR_YAW_DEG + 1
    return np.tile(face_index, (rows, 1)), np.tile(barycentric, (rows, 1, 1)).reshape(rows, N_CONTOUR, 3)
