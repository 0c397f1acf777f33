"""Is geometry learned, or only landmarks followed? Heads are rendered, annotated, and compared with the scan.

A known pinhole camera sees a head from several yaws; an annotator turns the pictures into a head; the distance of the scan's
surface to that head is measured after alignment, with a free scale (``similarity``) and without (``metric``), over the whole
face (95 mm round the nose tip) and the inner face (65 mm). The alignment is fitted once, on the whole face; it is never
refitted to a region. The mean head, which looks at no picture, is the line below which nothing counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from neuface_ray.evaluation.scans import NOSE_TIP, Scan
from neuface_ray.evaluation.tables import Row
from neuface_ray.geometry.alignment import Alignment, similarity
from neuface_ray.geometry.closest_points import Surface
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.heads.model import HeadModel
from neuface_ray.metrics.scan_to_mesh import MEDIAPIPE_SEVEN, refine, region_near
from neuface_ray.metrics.statistics import Comparison, compare, summarise
from neuface_ray.types import Camera

REGIONS_MM = {"whole": 95.0, "inner": 65.0}
MODES = ("similarity", "metric")
MEAN_HEAD = "mean head"
GAIN_KEY = "similarity_inner_mean"
DISTANCE_M, FIELD_M = 1.2, 0.36
_COARSE, _TOLERANCE = 5, 1e-5


@dataclass(frozen=True)
class Render:
    """A picture of a scan: uint8 [H, W, 3], the calibrated camera that made it, and the yaw of the head in it."""

    image: np.ndarray
    camera: Camera
    yaw_deg: float


@dataclass(frozen=True)
class PredictedHead:
    """A head: vertices (N, 3) in metres, faces (T, 3), and the seven NoW points (7, 3) on it, metres."""

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, head: HeadModel, vertices: np.ndarray) -> PredictedHead:
        """A prediction in the topology of a head model, from its vertices (N, 3)."""
        points = head.landmarks(head.template.new_tensor(vertices), "mediapipe478").numpy()[list(MEDIAPIPE_SEVEN)]
        return cls(np.asarray(vertices), head.faces.numpy(), points)


def head_rotation(yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """Rotation matrix (3, 3) of a head that is turned to its left and then tilted down."""
    return Rotation.from_euler("yx", [yaw_deg, pitch_deg], degrees=True).as_matrix()


def camera_facing(turn: np.ndarray, side: int) -> tuple[Camera, np.ndarray]:
    """The camera 1.2 m before a head with rotation ``turn`` (3, 3), for pictures of ``side`` pixels, calibrated in the frame of
    the head; and where it sees the head's origin, (3,) in the view frame."""
    focal = side * DISTANCE_M / FIELD_M
    intrinsics = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    translation, flip = np.array([0, 0, -DISTANCE_M]), np.array([1.0, -1.0, -1.0])
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3], world_to_camera[:3, 3] = flip[:, None] * turn, flip * translation
    return Camera(intrinsics, world_to_camera), translation


def render_scan(scan: Scan, yaw_deg: float, pitch_deg: float = 0.0, side: int = 512) -> Render:
    """Render a normalised scan, turned and tilted, from 1.2 m."""
    turn = head_rotation(yaw_deg, pitch_deg)
    camera, translation = camera_facing(turn, side)
    placed = scan.moved(turn / 1000, np.zeros(3))
    picture = placed.picture(PinholeCamera(translation, camera.intrinsics), (side, side))
    return Render(picture, camera, yaw_deg)


def score(scan: Scan, prediction: PredictedHead, points: np.ndarray) -> dict[str, float]:
    """Measure the mean and median distance in mm of scan points (P, 3) to a prediction, for each mode and region.

    Keys are ``{mode}_{region}_{mean|median}``.
    """
    nose, landmarks = scan.landmarks[NOSE_TIP], scan.landmarks[list(MEDIAPIPE_SEVEN)]
    face = points[region_near(points, nose, REGIONS_MM["whole"])]
    seen = ~np.isnan(landmarks).any(-1)
    surface = Surface(1000 * prediction.vertices, prediction.faces)
    start = similarity(1000 * prediction.landmarks[seen], landmarks[seen])
    result = {}
    for mode in MODES:
        if mode == "metric":
            start = _with_own_size(start, 1000 * prediction.landmarks.mean(0))
        rough = refine(face[::_COARSE], surface, start, mode == "metric", tolerance=_TOLERANCE)
        start = Alignment(rough.rotation, rough.translation, np.float64(rough.scale))
        error = refine(face, surface, start, mode == "metric", tolerance=_TOLERANCE)
        for region, radius in REGIONS_MM.items():
            inside = error.distances[region_near(face, nose, radius)]
            result[f"{mode}_{region}_mean"] = float(inside.mean())
            result[f"{mode}_{region}_median"] = float(np.median(inside))
    return result


def _with_own_size(fit: Alignment, centre: np.ndarray) -> Alignment:
    """An alignment without its scale that leaves a point (3,) where it was."""
    return Alignment(fit.rotation, fit.translation + (fit.scale - 1) * fit.rotation @ centre, np.float64(1))


def gain(rows: Sequence[Row], chosen: Sequence[Row]) -> Comparison:
    """The mean head's error less that of some rows, inner face, similarity-aligned, over the pictures in which they succeeded.

    Args:
        rows: with one of `MEAN_HEAD` for each ``head``. chosen: with ``head`` and the keys of `score`, NaN for failures.
    """
    base = {row["head"]: row[GAIN_KEY] for row in rows if row["method"] == MEAN_HEAD}
    heads = np.array([row["head"] for row in chosen])
    return compare(np.array([base[head] for head in heads]), np.array([row[GAIN_KEY] for row in chosen]), heads)


def table(rows: Sequence[Row], by: Sequence[str] = ("method",)) -> list[Row]:
    """One line for each combination of the columns ``by``, in order of appearance: means over the pictures that succeeded.

    ``gain`` is explained at `gain`; its 95 % interval is by bootstrap over heads.
    """
    lines = []
    for key in dict.fromkeys(tuple(row[name] for name in by) for row in rows):
        chosen = [row for row in rows if tuple(row[name] for name in by) == key]
        line: Row = dict(zip(by, key, strict=True))
        means = summarise(np.array([row[GAIN_KEY] for row in chosen]))
        line |= {"n": means.n, "failed": means.excluded}
        for mode in MODES:
            for region in REGIONS_MM:
                for what in ("median", "mean"):
                    name = f"{mode}_{region}_{what}"
                    line[name.replace("_", " ")] = summarise(np.array([row[name] for row in chosen])).mean
        if chosen[0]["method"] != MEAN_HEAD:
            found = gain(rows, chosen)
            line |= {"gain": found.difference, "low": found.low, "high": found.high}
        lines.append(line)
    return lines
