"""The UV atlas of a head that painting goes by: fields around brows, lips, eyes, beard and scalp, made once at rest.

The atlas unrolls the head onto a cylinder about the vertical through the root joint; its coordinates are millimetres of arc
and height at the average face's radius, so that every head whose landmarks are known can be painted, with or without UVs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from neuface_ray.errors import UsageError
from neuface_ray.geometry.rays import RayCaster
from neuface_ray.geometry.render import smooth_normals
from neuface_ray.heads.model import HeadModel

RADIUS_MM = 95.0
WIDTH, HEIGHT = 600, 320
LEFT_MM, TOP_MM = -300.0, 160.0
PARTS = ("skin", "left_eye", "right_eye", "teeth", "tongue", "mouth_cavity", "eye_cavities")
FIELDS = ("brow", "brow_along", "lip", "eye", "beard", "scalp", "flush", "crease")

_CURVES = {
    "mediapipe478": {
        "brows": ([107, 66, 105, 63, 70], [55, 65, 52, 53, 46]),
        "brows_left": ([336, 296, 334, 293, 300], [285, 295, 282, 283, 276]),
        "lips": [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185],
        "eyes": [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
        "eyes_left": [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466],
        "chin": 152,
        "nose": 1,
    },
    "ibug68": {
        "brows": ([21, 20, 19, 18, 17], [21, 20, 19, 18, 17]),
        "brows_left": ([22, 23, 24, 25, 26], [22, 23, 24, 25, 26]),
        "lips": list(range(48, 60)),
        "eyes": list(range(36, 42)),
        "eyes_left": list(range(42, 48)),
        "chin": 8,
        "nose": 30,
    },
}


@dataclass(frozen=True)
class UvAtlas:
    """What painting needs to know of a head model.

    Args:
        coordinates: (N, 2) float32 atlas position of each vertex, millimetres. fields: float32 [320, 600, 8], see FIELDS:
            distance (mm) from the brow's middle line and the way along it (0 inner to 1 outer end), signed distance from
            the lips' and the eyes' outline (negative inside), and 0 to 1 weights of beard, scalp, flush and creases.
        part: (T,) index into PARTS of each triangle. occlusion: (N,) share of the sky each vertex sees at rest.
        eye_centres: (2, 3) left and right, at rest. rest: (N, 3) the template. neck: (3,) middle of the neck's lower end.
    """

    coordinates: np.ndarray
    fields: np.ndarray
    part: np.ndarray
    occlusion: np.ndarray
    eye_centres: np.ndarray
    rest: np.ndarray
    neck: np.ndarray

    def sample(self, points: np.ndarray) -> np.ndarray:
        """Fields (P, 8) at atlas coordinates (P, 2)."""
        pixels = (points - np.float32([LEFT_MM, TOP_MM])) * np.float32([1, -1])
        return np.concatenate([sample_bilinear(half, pixels) for half in self._halves], -1)

    @cached_property
    def _halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The fields as two contiguous images of four channels, the most that OpenCV looks up at once."""
        return np.ascontiguousarray(self.fields[..., :4]), np.ascontiguousarray(self.fields[..., 4:])


def sample_bilinear(image: np.ndarray, pixels: np.ndarray, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Bilinear values (P, C <= 4) of an image [H, W, C] at columns and rows (P, 2) counted from the first pixel's centre."""
    count = len(pixels)
    if not count:
        return np.zeros((0, image.shape[2]), np.float32)
    padded = np.zeros((-(-count // 256) * 256, 2), np.float32)
    padded[:count] = pixels
    grid = padded.reshape(-1, 256, 2)
    return cv2.remap(image, grid, None, cv2.INTER_LINEAR, borderMode=border).reshape(len(padded), -1)[:count]


def build_uv_atlas(head: HeadModel) -> UvAtlas:
    """Build the atlas of a head; raises UsageError when it has neither MediaPipe's nor the 68 landmarks."""
    rest, faces = head.template.double().numpy(), head.faces.numpy()
    scheme = next((name for name in _CURVES if _has(head, name)), None)
    if scheme is None:
        raise UsageError(f"head {head.name!r} has no landmark embedding to paint a face by; give it mediapipe478 or ibug68")
    points = unroll(head.embedding(scheme).points(head.template, head.faces).double().numpy())
    part = _parts(head, faces)
    skin = faces[np.isin(part, [0, 1, 2])]
    neck = head.regions.get("neck")
    base = rest[neck.numpy()] if neck is not None else rest[rest[:, 1] < np.quantile(rest[:, 1], 0.05)]
    low = base[base[:, 1] < np.quantile(base[:, 1], 0.4)].mean(0)
    return UvAtlas(
        unroll(rest).astype(np.float32),
        _fields(points, _CURVES[scheme]),
        part,
        _occlusion(rest, faces, skin),
        head.template_joints[3:5].double().numpy(),
        rest,
        low,
    )


def unroll(points: np.ndarray) -> np.ndarray:
    """Atlas coordinates (..., 2), millimetres, of rest positions (..., 3), metres."""
    angle = np.arctan2(points[..., 0], points[..., 2])
    return np.stack([RADIUS_MM * angle, 1e3 * points[..., 1]], -1)


def _has(head: HeadModel, scheme: str) -> bool:
    try:
        head.embedding(scheme)
    except UsageError:
        return False
    return True


def _parts(head: HeadModel, faces: np.ndarray) -> np.ndarray:
    part = np.zeros(len(faces), np.int64)
    regions = head.regions
    eyes = {"left_eye": 1.0, "right_eye": -1.0}
    for index, name in enumerate(PARTS[1:], 1):
        inside = np.zeros(head.n_vertices, bool)
        if name in regions:
            inside[regions[name].numpy()] = True
        elif name in eyes and "eyes" in regions:
            eye = regions["eyes"].numpy()
            inside[eye[head.template[eye, 0].numpy() * eyes[name] > 0]] = True
        part[inside[faces].all(1)] = index
    return part


def _fields(points: np.ndarray, curves: dict) -> np.ndarray:
    x = LEFT_MM + np.arange(WIDTH)
    y = TOP_MM - np.arange(HEIGHT)
    grid = np.stack(np.meshgrid(x, y), -1).astype(np.float64)
    brows = [np.mean([points[upper], points[lower]], 0) for upper, lower in (curves["brows"], curves["brows_left"])]
    distances = [_distance_to_polyline(grid, brow) for brow in brows]
    nearer = distances[0][0] < distances[1][0]
    brow, along = (np.where(nearer, distances[0][k], distances[1][k]) for k in (0, 1))
    lips = points[curves["lips"]]
    eyes = [points[curves[name]] for name in ("eyes", "eyes_left")]
    lip = _signed_distance(grid, lips)
    eye = np.minimum(*(_signed_distance(grid, outline) for outline in eyes))
    chin, nose = points[curves["chin"]], points[curves["nose"]]
    fields = [brow, along, lip, eye, *_region_weights(grid, lips.mean(0), np.mean([o.mean(0) for o in eyes], 0), chin, nose)]
    return np.stack(fields, -1).astype(np.float32)


def _region_weights(
    grid: np.ndarray, mouth: np.ndarray, eyes: np.ndarray, chin: np.ndarray, nose: np.ndarray
) -> list[np.ndarray]:
    """Weights of beard, scalp, flush and creases on the atlas (H, W)."""
    x, y = np.abs(grid[..., 0] - mouth[0]), grid[..., 1]
    jaw_top = mouth[1] + np.interp(x, [0, 30, 60, 90, 120, 140, 300], [12, 6, -4, 22, 52, 40, -400])
    beard = _ramp(jaw_top - y, 7) * _ramp(y - (chin[1] - 22), 12) * _ramp(142 - x, 12)
    moustache_top = nose[1] - 7
    beard = np.maximum(beard, _ramp(moustache_top - y, 4) * _ramp(y - mouth[1], 6) * _ramp(34 - x, 6))
    line = np.interp(
        x,
        [0, 45, 75, 100, 125, 135, 160, 178, 200, 260, 300],
        np.array([62, 58, 50, 30, 0, -12, 20, 12, -25, -55, -60]) + eyes[1],
    )
    scalp = _ramp(y - line, 9)
    cheek = np.exp(-(((x - 42) / 17) ** 2) - ((y - (nose[1] + 2)) / 15) ** 2)
    tip = np.exp(-((x / 12) ** 2) - ((y - nose[1]) / 10) ** 2)
    ear = np.exp(-(((x - 155) / 22) ** 2) - ((y - nose[1]) / 32) ** 2)
    fold = np.abs(x - np.interp(y, [mouth[1] - 14, mouth[1] + 8, nose[1] + 6], [38, 34, 18]))
    fold = np.exp(-((fold / 2.5) ** 2)) * _ramp(y - (mouth[1] - 14), 6) * _ramp(nose[1] + 8 - y, 6)
    brow_line = eyes[1] + 28
    forehead = np.exp(-(((y - brow_line) % 9.0 - 4.5) ** 2) / 1.2) * _ramp(y - brow_line, 5) * _ramp(brow_line + 28 - y, 5)
    bag = np.exp(-(((np.hypot((x - 33) / 1.4, y - eyes[1]) - 11) / 2.2) ** 2)) * _ramp(eyes[1] - 3 - y, 3)
    crease = np.clip(fold + 0.5 * forehead * _ramp(58 - x, 12) + 0.6 * bag, 0, 1)
    return [beard, scalp, np.clip(cheek + 0.8 * tip + 0.9 * ear, 0, 1), crease]


def _ramp(value: np.ndarray, width: float) -> np.ndarray:
    return np.clip(0.5 + value / (2 * width), 0, 1)


def _distance_to_polyline(grid: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (H, W) to a polyline (K, 2) and how far along it the nearest point lies, in [0, 1]."""
    best, along = np.full(grid.shape[:2], np.inf), np.zeros(grid.shape[:2])
    for k in range(len(line) - 1):
        step = line[k + 1] - line[k]
        t = np.clip((grid - line[k]) @ step / (step @ step), 0, 1)
        distance = np.linalg.norm(grid - line[k] - t[..., None] * step, axis=-1)
        along = np.where(distance < best, (k + t) / (len(line) - 1), along)
        best = np.minimum(best, distance)
    return best, along


def _signed_distance(grid: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Distance (H, W) to a closed outline (K, 2), negative inside."""
    distance, _ = _distance_to_polyline(grid, np.concatenate([outline, outline[:1]]))
    polygon = ((outline - [LEFT_MM, TOP_MM]) * [1, -1] * 16).round().astype(np.int32)
    inside = cv2.fillPoly(np.zeros(grid.shape[:2], np.uint8), [polygon], 1, shift=4)
    return np.where(inside, -distance, distance)


def _occlusion(rest: np.ndarray, faces: np.ndarray, skin: np.ndarray, rays: int = 48) -> np.ndarray:
    """Cosine-weighted share of the outside (N,) that each vertex sees past the skin and the eyes."""
    normals = smooth_normals(rest, faces)
    k = np.arange(rays) + 0.5
    height, turn = 1 - 2 * k / rays, k * np.pi * (3 - np.sqrt(5))
    sphere = np.stack([np.sqrt(1 - height**2) * np.cos(turn), height, np.sqrt(1 - height**2) * np.sin(turn)], -1)
    caster = RayCaster(rest, skin)
    unblocked, total = np.zeros(len(rest)), np.zeros(len(rest))
    for direction in sphere:
        cosine = np.clip(normals @ direction, 0, None)
        open_sky = ~caster.blocked(rest + 1e-3 * normals + 5e-4 * direction, direction)
        unblocked += cosine * open_sky
        total += cosine
    return (unblocked / np.maximum(total, 1e-6)).astype(np.float32)
