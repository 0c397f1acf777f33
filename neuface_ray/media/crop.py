"""The square crop around a face and the exact way back to the image.

The box is the papers' (NeuFace, released data loaders): extrema of the 68 points, side ``(w + h) / 2 * 1.1 * crop_scale``,
same centre. The points are always the same subset of MediaPipe's, so a crop does not depend on the landmark detector, and
each frame's box depends on that frame alone. Pixel centres lie at +0.5: a crop of S pixels spans [-1, 1] from edge to edge.
"""

from __future__ import annotations

import cv2
import numpy as np

# The MediaPipe points nearest to the 68 of the iBUG scheme: contour, brows, nose, eyes, lips.
IBUG_FROM_MEDIAPIPE = np.array(
    [
        *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
        *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
        *(168, 197, 5, 4, 75, 97, 2, 326, 305),
        *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
        *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
    ]
)
LANDMARK_MARGIN = 1.1


def landmark_box(mesh: np.ndarray) -> np.ndarray:
    """(4,) left, top, right, bottom of the 68-point subset of MediaPipe's (478, 2) points, pixels."""
    points = mesh[IBUG_FROM_MEDIAPIPE]
    return np.concatenate([points.min(0), points.max(0)])


def crop_to_image(box: np.ndarray, crop_scale: float) -> np.ndarray:
    """(3, 3) map from homogeneous crop coordinates in [-1, 1] to image pixels, for a landmark box (4,)."""
    size = box[2:] - box[:2]
    half = float(int(size.mean() * LANDMARK_MARGIN * crop_scale)) / 2
    centre = (box[:2] + box[2:]) / 2
    return np.array([[half, 0, centre[0]], [0, half, centre[1]], [0, 0, 1.0]])


def to_crop(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Image points (..., 2) in crop coordinates, given ``crop_to_image`` (3, 3)."""
    inverse = np.linalg.inv(matrix)
    return points @ inverse[:2, :2].T + inverse[:2, 2]


def cut(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The (3, size, size) uint8 crop of a (H, W, 3) image, zero outside of it.

    Large faces are first halved by area means, which moves no edge, until bilinear sampling does not skip pixels.
    """
    half, centre = matrix[0, 0], matrix[:2, 2]
    low = np.floor(np.maximum(centre - half - 2, 0)).astype(int)
    high = np.ceil(np.minimum(centre + half + 2, [image.shape[1], image.shape[0]])).astype(int)
    if (high <= low).any():
        return np.zeros((3, size, size), np.uint8)
    patch, step = image[low[1] : high[1], low[0] : high[0]], 2 * half / size
    factor = 1
    while step / factor >= 2:
        patch = np.pad(patch, ((0, patch.shape[0] % 2), (0, patch.shape[1] % 2), (0, 0)), mode="edge")
        patch = cv2.resize(patch, (patch.shape[1] // 2, patch.shape[0] // 2), interpolation=cv2.INTER_AREA)
        factor *= 2
    step /= factor
    origin = (centre - half - low) / factor + step / 2 - 0.5  # where the centre of the crop's first pixel falls
    sampling = np.array([[step, 0, origin[0]], [0, step, origin[1]]])
    crop = cv2.warpAffine(patch, sampling, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.ascontiguousarray(crop.transpose(2, 0, 1))


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """A square uint8 (S, S, 3) image at another side: area means where it shrinks, bilinear where it grows."""
    if image.shape[0] == size:
        return image
    how = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=how)


def resize_crops(crops: np.ndarray, size: int) -> np.ndarray:
    """Crops (..., 3, S, S) at another side, each by :func:`resize`."""
    if crops.shape[-1] == size:
        return crops
    images = crops.reshape(-1, *crops.shape[-3:]).transpose(0, 2, 3, 1)
    resized = np.stack([resize(image, size) for image in images]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(resized).reshape(*crops.shape[:-2], size, size)


def blur(crop: np.ndarray) -> float:
    """Sharpness of a (3, S, S) crop: variance of the Laplacian of its luma; low is blurred."""
    luma = cv2.cvtColor(np.ascontiguousarray(crop.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(luma, cv2.CV_64F).var())
