"""Measures of annotations and models (NME, MSI, CVD, MPVE); numpy, metres in, millimetres, percent or pixels out.

NaN marks what could not be measured; nothing here turns it into a number. `statistics.summarise` leaves it out and counts it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuface_ray.geometry import alignment as align

MM = 1000.0
MSI_EPSILON = 1e-6
OUTER_EYE_CORNERS = {"ibug68": (36, 45), "mediapipe478": (33, 263)}
MIN_FRAMES = 5


def eye_distance(landmarks: np.ndarray, scheme: str) -> np.ndarray:
    """Distance (...) between the outer eye corners of landmarks (..., L, D); points 36 and 45 of the 68, 33 and 263 of the 478.

    It collapses in profile views: read errors normalised by it together with the yaw, or use `box_size`.
    """
    right, left = OUTER_EYE_CORNERS[scheme]
    return np.linalg.norm(landmarks[..., right, :] - landmarks[..., left, :], axis=-1)


def box_size(landmarks: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Geometric mean (...) of width and height of the box of landmarks (..., L, 2); ``valid`` bool (L,) points count."""
    points = landmarks if valid is None else landmarks[..., valid, :]
    return np.sqrt(np.ptp(points, axis=-2).prod(-1))


def nme(predicted: np.ndarray, reference: np.ndarray, normaliser: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Normalised mean error of landmarks, percent.

    Args:
        predicted, reference: (..., L, 2) in pixels of the original image. normaliser: (...) in pixels.
        valid: bool (..., L) or (L,), points that count; all if None.

    Returns:
        (...); NaN where no point counts or the normaliser is not positive.

    Source: Sagonas et al., "300 Faces in-the-Wild Challenge", IVC 2016, with `eye_distance` of the reference.
    """
    errors = np.linalg.norm(np.asarray(predicted, np.float64) - reference, axis=-1)
    valid = np.broadcast_to(True if valid is None else valid, errors.shape)
    count = valid.sum(-1)
    mean = np.where(valid, errors, 0).sum(-1) / np.maximum(count, 1)
    usable = (count > 0) & (np.asarray(normaliser) > 0)
    return np.where(usable, 100 * mean / np.where(usable, normaliser, 1), np.nan)


class Stability(NamedTuple):
    """Motion stability of K points over time; comparable only at one frame rate.

    Args:
        msi: mean over points of 1 / variance of acceleration, frame^4 / mm^2 (NeuFace's MSI3D).
        msi_median: median over points, which the stillest points do not rule.
        acceleration_rms: root mean square acceleration, mm / frame^2 (in the unit of the points if they are not metres).
        n: number of accelerations that the variances rest on.
    """

    msi: float
    msi_median: float
    acceleration_rms: float
    n: int


def accelerations(points: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Second differences (M, K, D) along time of points (F, K, D), where three consecutive frames are valid (bool (F,))."""
    second = points[2:] - 2 * points[1:-1] + points[:-2]
    if valid is None:
        return second
    return second[valid[2:] & valid[1:-1] & valid[:-2]]


def msi3d(points: np.ndarray, valid: np.ndarray | None = None, unit_mm: float = MM) -> Stability:
    """Motion stability index of posed, root-centred points.

    The variance of the acceleration vector is the trace of its covariance over time, at least 1e-6 mm^2 / frame^4.

    Args:
        points: (F, K, 3) metres, at consecutive frames. valid: bool (F,). unit_mm: millimetres in a unit of the points.

    Returns:
        `Stability`; NaN with fewer than three accelerations, which is fewer than five consecutive frames.

    Source: NeuFace (CVPR 2023) section 4, after StableFace's motion stability index.
    """
    second = accelerations(np.asarray(points, np.float64), valid) * unit_mm
    if len(second) < MIN_FRAMES - 2 or second.shape[1] == 0:
        return Stability(np.nan, np.nan, np.nan, len(second))
    index = 1 / np.maximum(second.var(axis=0).sum(-1), MSI_EPSILON)
    rms = np.sqrt((second**2).sum(-1).mean())
    return Stability(float(index.mean()), float(np.median(index)), float(rms), len(second))


class CrossView(NamedTuple):
    """Cross-view vertex distance in mm: per frame (F,), per view (V,) over the pairs that contain it, and the mean of all."""

    per_frame: np.ndarray
    per_view: np.ndarray
    mean: float


def cvd(canonical: np.ndarray, valid: np.ndarray | None = None, norm: int = 1) -> CrossView:
    """Cross-view vertex distance: how much the meshes of one instant differ between views.

    Args:
        canonical: (F, V, N, 3) metres, with the root rotation left out. valid: bool (F, V).
        norm: 1 for the sum of absolute coordinate differences (the paper's), 2 for Euclidean distance.

    Returns:
        `CrossView`; the mean over all valid pairs of views in all frames; NaN where there is no pair.

    Source: NeuFace (CVPR 2023) section 4; canonical alignment and the mean over vertices are our reading.
    """
    frames, views = canonical.shape[:2]
    valid = np.ones((frames, views), bool) if valid is None else valid
    first, second = np.triu_indices(views, 1)
    distance = np.full((frames, len(first)), np.nan)
    for pair, (a, b) in enumerate(zip(first, second, strict=True)):
        both = valid[:, a] & valid[:, b]
        difference = canonical[both, a].astype(np.float64) - canonical[both, b]
        distance[both, pair] = np.linalg.norm(difference, ord=norm, axis=-1).mean(-1) * MM
    per_view = [nan_mean(distance[:, (first == view) | (second == view)]) for view in range(views)]
    return CrossView(nan_mean(distance, axis=1), np.array(per_view), float(nan_mean(distance)))


def mpve(
    predicted: np.ndarray,
    truth: np.ndarray,
    alignment: str,
    mask: np.ndarray | None = None,
    roots: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Mean vertex error in mm between meshes of one topology after a named alignment.

    Args:
        predicted, truth: (..., N, 3) metres.
        alignment: ``none``; ``root`` (origins moved together, no rotation); ``rigid``; ``similarity``.
        mask: bool (N,), the vertices that are aligned and compared; all if None.
        roots: root joints (..., 3) of predicted and truth for ``root``; the means of the vertices if None.

    Returns:
        (...) mm. Report it under a name that says both, such as ``mpve_rigid_face_mm``.

    Raises:
        ValueError: unknown alignment.
    """
    if mask is not None:
        predicted, truth = predicted[..., mask, :], truth[..., mask, :]
    if alignment == "root":
        origins = (predicted.mean(-2), truth.mean(-2)) if roots is None else roots
        predicted, truth = predicted - origins[0][..., None, :], truth - origins[1][..., None, :]
    elif alignment in ("rigid", "similarity"):
        predicted = getattr(align, alignment)(predicted, truth).apply(predicted)
    elif alignment != "none":
        raise ValueError(f"unknown alignment {alignment!r}; it is none, root, rigid or similarity")
    return np.linalg.norm(predicted - truth, axis=-1).mean(-1) * MM


def nan_mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean that leaves NaN out and is NaN (without a warning) where nothing is left."""
    values = np.asarray(values, np.float64)
    count = (~np.isnan(values)).sum(axis)
    return np.where(count > 0, np.nansum(values, axis) / np.maximum(count, 1), np.nan)
