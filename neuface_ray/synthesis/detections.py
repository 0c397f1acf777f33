"""What a landmark detector finds in drawn faces: the input that methods get from real pictures, beside the truth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from neuface_ray.media.config import MediaConfig
from neuface_ray.media.detect import N_MEDIAPIPE, Face, FaceDetector

SMALLEST_SHARE = 0.2
"""Of the crop's side; what is found smaller than that is not the face that was drawn."""


def detect_faces(crops: Iterable[np.ndarray]) -> np.ndarray:
    """Find the face of each crop uint8 [S, S, 3] with MediaPipe's detector.

    Returns:
        float16 [n, 478, 2] in crop coordinates [-1, 1], y down; NaN where none is found.
    """
    with FaceDetector(MediaConfig(min_face_px=1)) as detector:
        return np.stack([_landmarks(detector.find(np.asarray(crop)), len(crop)) for crop in crops]).astype(np.float16)


def _landmarks(found: list[Face], side: int) -> np.ndarray:
    faces = [face for face in found if face.side > SMALLEST_SHARE * side]
    return 2 * faces[0].mesh / side - 1 if faces else np.full((N_MEDIAPIPE, 2), np.nan)
