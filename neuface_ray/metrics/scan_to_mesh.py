"""Scan-to-mesh error after the NoW protocol: seven points, a cropped scan, an alignment refined on the surface.

Source: Sanyal et al., "Learning to Regress 3D Face Shape and Expression from an Image without 3D Supervision", CVPR 2019, and
its public evaluation; reimplemented with a Gauss-Newton refinement. Everything is in mm, the scan stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from neuface_ray.geometry import alignment as align
from neuface_ray.geometry.closest_points import Surface

MEDIAPIPE_SEVEN = (33, 133, 362, 263, 2, 61, 291)
ITERATIONS = 50


@dataclass(frozen=True)
class ScanError:
    """Distances (P,) in mm of the scan's points to the mesh, and the similarity (mesh to scan) they were taken under."""

    distances: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    scale: float

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Mesh points (..., 3) in the scan's frame."""
        return self.scale * points @ self.rotation.T + self.translation


def now_crop(scan: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """bool (P,): the scan's points (P, 3) that the protocol counts, from its seven landmarks (7, 3).

    The order is right eye outer and inner, left eye inner and outer corner, base of the nose, right and left mouth corner.
    """
    bridge, base = landmarks[1:3].mean(0), landmarks[4]
    centre = base + 0.3 * (bridge - base)
    radius = 1.4 * (np.linalg.norm(landmarks[0] - landmarks[3]) + np.linalg.norm(bridge - base)) / 2
    return np.linalg.norm(scan - centre, axis=-1) <= radius


def scan_to_mesh(
    scan: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    scan_landmarks: np.ndarray,
    mesh_landmarks: np.ndarray,
    metric: bool = False,
    iterations: int = ITERATIONS,
) -> ScanError:
    """Aligns a mesh to scan points and measures how far each of them lies from its surface.

    Args:
        scan: (P, 3) mm, already cropped. vertices: (N, 3) mm and faces: (T, 3) of the mesh, usually a neutral head.
        scan_landmarks, mesh_landmarks: (7, 3) corresponding points to start from.
        metric: the mesh's size is kept; else a scale is fitted too.
    """
    start = (align.rigid if metric else align.similarity)(mesh_landmarks, scan_landmarks)
    return refine(scan, Surface(vertices, faces), start, metric, iterations)


def refine(
    scan: np.ndarray,
    surface: Surface,
    start: align.Alignment,
    metric: bool,
    iterations: int = ITERATIONS,
    tolerance: float = 1e-7,
) -> ScanError:
    """Damped Gauss-Newton on rotation, translation and scale (unless ``metric``) of the sum of squared scan-to-mesh distances.

    It ends when a step lowers the sum by less than the share ``tolerance``. The scan is carried into the mesh's frame, so the
    surface is indexed once. Each distance is linearised along its own direction, which is the exact gradient of the distance
    to a moving surface.
    """
    state = (np.asarray(start.rotation, np.float64), np.asarray(start.translation, np.float64), float(start.scale))
    feet, residuals, directions = _residuals(scan, surface, *state)
    damping = 1e-6
    for _ in range(iterations):
        centre = feet.mean(0)
        offsets = feet - centre
        size = max(float(np.sqrt((offsets**2).sum(-1).mean())), 1e-12)
        columns = [np.cross(offsets, directions) / size, directions]
        if not metric:
            columns.append((offsets * directions).sum(-1, keepdims=True) / size)
        jacobian = np.concatenate(columns, -1)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ residuals
        step = np.linalg.solve(normal + damping * np.diag(normal.diagonal() + 1e-9), gradient)
        growth = 1.0 if metric else float(np.exp(step[6] / size))
        turn = Rotation.from_rotvec(step[:3] / size).as_matrix()
        moved = (turn @ state[0], growth * turn @ (state[1] - centre) + centre + step[3:6], growth * state[2])
        trial = _residuals(scan, surface, *moved)
        before, after = (residuals**2).sum(), (trial[1] ** 2).sum()
        if after < before:
            state, (feet, residuals, directions) = moved, trial
            damping = max(damping / 10, 1e-9)
            if before - after < tolerance * before or np.abs(step).max() < 1e-7:
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    return ScanError(np.abs(residuals), *state)


def _residuals(scan: np.ndarray, surface: Surface, rotation: np.ndarray, translation: np.ndarray, scale: float):
    """Closest mesh points in the scan's frame (P, 3), distances (P,) and unit directions from them to the scan (P, 3)."""
    found = surface.closest((scan - translation) @ rotation / scale)
    feet = scale * found.points @ rotation.T + translation
    gaps = scan - feet
    distances = np.linalg.norm(gaps, axis=-1)
    on_surface = distances < 1e-9
    normals = surface.normals[found.triangle] @ rotation.T
    directions = np.where(on_surface[:, None], normals, gaps / np.where(on_surface, 1, distances)[:, None])
    return feet, distances, directions


def region_near(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """bool (P,): points (P, 3) within a distance of a point (3,), such as the face within 95 mm of the nose tip."""
    return np.linalg.norm(points - centre, axis=-1) <= radius
