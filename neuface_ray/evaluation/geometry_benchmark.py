"""Is geometry learned, or only landmarks followed? Scans are rendered, annotated, and the annotation is held to the scan.

Each scan is rendered by known pinhole cameras from several yaws; an annotator turns the pictures into a head; the distance of
the scan's surface to that head is measured after alignment, with a free scale (``similarity``) and without (``metric``), over
the whole face (95 mm round the nose tip) and the inner face (65 mm). The alignment is fitted once, on the whole face; it is
never refitted to a region. The mean head, which looks at no picture, is the line below which nothing counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from neuface_ray.evaluation.scan_to_mesh import MEDIAPIPE_SEVEN, region_near, scan_to_mesh
from neuface_ray.evaluation.scans import NOSE_TIP, Scan, surface_sample
from neuface_ray.evaluation.statistics import compare, summary
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.types import Camera

YAWS_DEG = (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0)
REGIONS_MM = {"whole": 95.0, "inner": 65.0}
MODES = ("similarity", "metric")
MEAN_HEAD = "mean head"
DISTANCE_M, SIDE_PX, FIELD_M = 1.2, 512, 0.36


@dataclass(frozen=True)
class Render:
    """A picture of a scan: uint8 [H, W, 3], the calibrated camera that made it, and the yaw of the head in it."""

    image: np.ndarray
    camera: Camera
    yaw_deg: float


@dataclass(frozen=True)
class Prediction:
    """A head: vertices (N, 3) in metres, faces (T, 3), and the seven NoW points (7, 3) on it, metres."""

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, head, vertices: np.ndarray) -> Prediction:
        """A prediction in the topology of a head model, from its vertices (N, 3)."""
        points = head.landmarks(head.template.new_tensor(vertices), "mediapipe478").numpy()[list(MEDIAPIPE_SEVEN)]
        return cls(np.asarray(vertices), head.faces.numpy(), points)


Annotate = Callable[[Sequence[Render]], Prediction | None]
"""From one or more pictures of one head to that head, or None if it fails."""


def take(scan: Scan, yaw_deg: float, pitch_deg: float = 0.0) -> Render:
    """A picture of a normalised scan turned by a yaw, from 1.2 m."""
    turn = Rotation.from_euler("yx", [yaw_deg, pitch_deg], degrees=True).as_matrix()
    focal = SIDE_PX * DISTANCE_M / FIELD_M
    intrinsics = np.array([[focal, 0, SIDE_PX / 2], [0, focal, SIDE_PX / 2], [0, 0, 1]])
    translation = np.array([0, 0, -DISTANCE_M])
    placed = scan.moved(turn / 1000, np.zeros(3))
    picture = placed.picture(PinholeCamera(translation, intrinsics), (SIDE_PX, SIDE_PX))
    flip = np.array([1.0, -1.0, -1.0])
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3], world_to_camera[:3, 3] = flip[:, None] * turn, flip * translation
    return Render(picture, Camera(intrinsics, world_to_camera), yaw_deg)


def score(scan: Scan, prediction: Prediction, points: np.ndarray) -> dict[str, float]:
    """Mean and median distance in mm of scan points (P, 3) to a prediction, for each mode and region.

    Keys are ``{mode}_{region}_{mean|median}``.
    """
    nose, landmarks = scan.landmarks[NOSE_TIP], scan.landmarks[list(MEDIAPIPE_SEVEN)]
    whole = points[region_near(points, nose, REGIONS_MM["whole"])]
    seen = ~np.isnan(landmarks).any(-1)
    result = {}
    for mode in MODES:
        error = scan_to_mesh(
            whole,
            1000 * prediction.vertices,
            prediction.faces,
            landmarks[seen],
            1000 * prediction.landmarks[seen],
            metric=mode == "metric",
        )
        for region, radius in REGIONS_MM.items():
            inside = error.distances[region_near(whole, nose, radius)]
            result[f"{mode}_{region}_mean"] = float(inside.mean())
            result[f"{mode}_{region}_median"] = float(np.median(inside))
    return result


def run(
    scans: Iterable[Scan],
    annotators: dict[str, Annotate],
    mean_head: Prediction,
    groups: Sequence[Sequence[float]] = tuple((yaw,) for yaw in YAWS_DEG),
    count: int = 3000,
) -> list[dict[str, object]]:
    """Scores annotators on normalised scans.

    Args:
        annotators: by name. mean_head: the reference. groups: yaws that are given to the annotator together, one view or more.
        count: points drawn from each scan's surface.

    Returns:
        A row for each scan, group and method, NaN where a method fails: ``scan``, ``views`` such as ``-40`` or ``-40 0 40``,
        ``turn`` (the same without its sign for a single view), ``method`` and the keys of `score`.
    """
    rows: list[dict[str, object]] = []
    for scan in scans:
        points = surface_sample(scan, count)
        reference = score(scan, mean_head, points)
        failed = dict.fromkeys(reference, float("nan"))
        for yaws in groups:
            renders = [take(scan, yaw) for yaw in yaws]
            about = {"scan": scan.name, "views": " ".join(f"{yaw:g}" for yaw in yaws)}
            about["turn"] = f"{abs(yaws[0]):g}" if len(yaws) == 1 else about["views"]
            rows.append({**about, "method": MEAN_HEAD, **reference})
            for name, annotate in annotators.items():
                prediction = annotate(renders)
                rows.append({**about, "method": name, **(failed if prediction is None else score(scan, prediction, points))})
    return rows


def table(rows: Sequence[dict[str, object]], by_turn: bool = False) -> list[dict[str, object]]:
    """One line for each method (and turn of the head): means over the pictures in which it succeeded.

    ``gain`` is the mean head's mean error less the method's over the inner face, similarity-aligned, on the same pictures, with
    its 95 % interval by bootstrap over scans.
    """
    lines = []
    keys = sorted({(row["method"], row["turn"] if by_turn else None) for row in rows}, key=str)
    for method, yaw in sorted(keys, key=lambda key: (key[0] != MEAN_HEAD, key)):
        own = [row for row in rows if row["method"] == method and yaw in (None, row["turn"])]
        place = {(row["scan"], row["views"]): row for row in rows if row["method"] == MEAN_HEAD}
        line: dict[str, object] = {"method": method, **({"turn": yaw} if by_turn else {})}
        means = summary(np.array([row["similarity_inner_mean"] for row in own]))
        line |= {"n": means.n, "failed": means.excluded}
        for mode in MODES:
            for region in REGIONS_MM:
                for what in ("median", "mean"):
                    key = f"{mode}_{region}_{what}"
                    line[key.replace("_", " ")] = summary(np.array([row[key] for row in own])).mean
        if method != MEAN_HEAD:
            key = "similarity_inner_mean"
            base = np.array([place[row["scan"], row["views"]][key] for row in own])
            gain = compare(base, np.array([row[key] for row in own]), np.array([row["scan"] for row in own]))
            line |= {"gain": gain.difference, "low": gain.low, "high": gain.high}
        lines.append(line)
    return lines
