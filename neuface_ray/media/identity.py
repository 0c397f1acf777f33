"""Whether a track shows one person: where the face changes into another's, by a cut, a dissolve or a fade.

A face is described by its colours at the triangles of MediaPipe's mesh, which ride on it as it moves, turns and speaks. Two
descriptions are compared by one minus their correlation over the triangles that both show, less a plane over the face, so
brightness, contrast and light from a side do not count; and by the side or half that is most alike, for a hand that covers the
other. What hides a face for a while is far from the face before it, but the face after it is near again; so a track is split
only where *every* face just after is far from *every* face just before.

Measured on 42 videos of one person each (up to 100 frames, 10 to 60 a second): the nearest of eight faces after any instant
lay within 0.09 of the nearest of eight before (a hand that wipes a face: 0.14); with 8, 16 and 24 frames between them within
0.19, 0.18 and 0.23 (0.22, 0.29, 0.32). Of 808 pairs of different people 98 % lay further apart than 0.17, half than 0.44.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce

import cv2
import numpy as np

from neuface_ray.media.bundle import canonical_face
from neuface_ray.media.detect import Face

SIDE = 56  # of the crop that colours are read from
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
LEAST_SHARED = 0.2  # of the triangles, in two faces that can be compared
LEAST_CONTRAST = 3 / 64
WINDOW = 8  # faces on each side of an instant
LEAST_FACES = 3
LIMIT_FPS = 25.0  # rate at which the limits were measured
LIMITS = (
    (1, 0.16),
    (4, 0.21),
    (8, 0.27),
    (16, 0.30),
    (24, 0.32),
)  # frames between two faces, distance beyond which they are two people's
SAME_FACE, SAME_PLACE = 0.1, 0.05  # distance, and sides of the box from frame to frame, of a face that a cut leaves alone
GAPS_S = (0.0, 0.16, 0.32, 0.64, 0.96)  # lengths of transitions that are tried, shortest first
STEP_FLOOR, STEP_RATIO = 0.008, 2.5  # change from frame to frame that belongs to a transition, over the usual
FADED = 0.5  # contrast over the usual, below which a face beside a transition is part of it


@dataclass(frozen=True)
class Likeness:
    """Descriptions of F faces: colours [F, T, 3] (luma and two differences), weights [F, T] in [0, 1] of what can be seen."""

    colours: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, crops: Sequence[np.ndarray], landmarks: Sequence[np.ndarray]) -> Likeness:
        """Of crops (3, S, S) and MediaPipe's points (478, 2) in crop coordinates."""
        triangles, usual, _ = _triangles()
        corners = (np.stack(landmarks).astype(np.float32)[:, triangles] + 1) * (SIDE / 2) - 0.5
        a, b, c = np.moveaxis(corners, 2, 0)
        area = (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0]) - (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
        facing = np.clip((area / np.abs(area).sum(1, keepdims=True) / usual - 0.2) / 0.3, 0, 1)
        middle = (a + b + c) / 3
        inside = ((middle > 0) & (middle < SIDE - 1)).all(-1)
        rgb = np.stack([_sample(crop, *place) for crop, place in zip(crops, np.moveaxis(middle, 2, 1), strict=True)])
        inside &= rgb.any(-1)  # crops are black outside of the picture
        luma, weights = rgb @ LUMA, (facing * inside).astype(np.float32)
        colours = np.stack([luma, 2 * (rgb[..., 0] - luma), 2 * (rgb[..., 2] - luma)], -1)
        colours = _without_slope(colours, weights)
        weights[colours[..., 0].std(-1) < LEAST_CONTRAST] = 0  # too dark to tell
        return cls(colours, weights)

    @property
    def contrast(self) -> np.ndarray:
        """[F] standard deviation of the luma."""
        return self.colours[..., 0].std(-1)

    def distances(self) -> np.ndarray:
        """[F, F] distances of the parts of the face that are most alike; NaN where two faces share too little."""
        parts = (weighted_distances(self.colours[:, part], self.weights[:, part]) for part in face_parts())
        return reduce(np.fmin, parts)


def weighted_distances(colours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[F, F] one minus the correlation of colours [F, T, 3], weighted by the products of weights [F, T]; NaN where they have
    less than ``LEAST_SHARED`` of their places in common."""
    shared = weights @ weights.T
    covariance, variance = np.zeros_like(shared), np.zeros_like(shared)
    with np.errstate(divide="ignore", invalid="ignore"):
        for channel in range(3):
            weighted = weights * colours[..., channel]
            total = weighted @ weights.T
            covariance += weighted @ weighted.T - total * total.T / shared
            variance += (weighted * colours[..., channel]) @ weights.T - total**2 / shared
        result = 1 - covariance / np.sqrt(np.maximum(variance * variance.T, 1e-12))
    return np.where(shared < LEAST_SHARED * weights.shape[1], np.nan, result)


@dataclass(frozen=True)
class Change:
    """One person's faces end with the index ``last`` of a track's faces, and another's begin with ``first``; what lies between
    belongs to nobody."""

    last: int
    first: int


def changes(likeness: Likeness, frames: np.ndarray, fps: float) -> list[Change]:
    """Where a track of faces, seen in ``frames`` [F] at ``fps`` frames a second, turns from one person into another."""
    if len(frames) < 2 * LEAST_FACES:
        return []
    undivided = np.nan_to_num(weighted_distances(likeness.colours, likeness.weights), nan=np.inf)
    if not any(_at_scale(undivided, frames, fps, gap_s) for gap_s in GAPS_S):
        return []  # nor do parts of the face divide what all of it together does not
    distance = np.nan_to_num(likeness.distances(), nan=np.inf)  # what cannot be compared divides nothing
    found: list[Change] = []
    for gap_s in GAPS_S:
        for change in _at_scale(distance, frames, fps, gap_s):
            if all(change.first <= other.last or change.last >= other.first for other in found):
                found.append(change)
    found.sort(key=lambda change: change.last)
    steps = np.append(np.diagonal(distance, 1), 0.0)
    steps = np.where(np.isfinite(steps), steps, 2.0)
    widened = [_widened(change, likeness.contrast, steps) for change in found]
    return [change for change in widened if _excess(distance, frames, change, fps) > 0]


def goes_on(before: Face, after: Face, lag: int, distance: float) -> bool:
    """Whether a face is still there ``lag`` frames later, after the picture has changed: the same person's, where it was."""
    moved = float(np.linalg.norm(before.mesh - after.mesh, axis=1).mean()) / before.side
    return distance < SAME_FACE and moved < SAME_PLACE * lag**0.5


def _at_scale(distance: np.ndarray, frames: np.ndarray, fps: float, gap_s: float) -> list[Change]:
    """The changes that a transition of one length explains: of each run of instants the one that divides best."""
    gap = round(gap_s * fps)
    lasts = (np.searchsorted(frames, frames - gap // 2) - 1).tolist()
    firsts = np.searchsorted(frames, frames + gap - gap // 2).tolist()
    best: list[tuple[float, Change]] = []
    for change in map(Change, lasts, firsts):
        if change.last < LEAST_FACES - 1 or change.first > len(frames) - LEAST_FACES:
            continue
        excess = _excess(distance, frames, change, fps)
        if excess <= 0:
            continue
        if best and change.last <= best[-1][1].first:
            best[-1] = max(best[-1], (excess, change), key=lambda pair: pair[0])
        else:
            best.append((excess, change))
    return [change for _, change in best]


def _excess(distance: np.ndarray, frames: np.ndarray, change: Change, fps: float) -> float:
    """By how much the nearest of the faces before and after a change lie further apart than one person's would; at most 0 if
    nothing can be compared."""
    before, after = slice(max(0, change.last + 1 - WINDOW), change.last + 1), slice(change.first, change.first + WINDOW)
    nearest = float(distance[before, after].min())
    if not LIMITS[0][1] < nearest < np.inf:
        return 0.0
    frames_apart = float(frames[change.first] - frames[change.last])
    return nearest - float(np.interp(frames_apart * max(1.0, LIMIT_FPS / fps), *zip(*LIMITS, strict=True)))


def _widened(change: Change, contrast: np.ndarray, steps: np.ndarray) -> Change:
    """The change with the frames around it in which the faces still mix or are faded.

    Args:
        contrast: [F] of the faces. steps: [F] distance of each face to the next.
    """
    last, first, count = change.last, change.first, len(contrast)
    before, after = slice(max(0, last - 3 * WINDOW), last + 1), slice(first, min(count, first + 3 * WINDOW))
    calm = [max(STEP_FLOOR, STEP_RATIO * float(np.median(steps[part][:-1]))) for part in (before, after)]
    faded = [FADED * float(np.median(contrast[part])) for part in (before, after)]
    middle = last + int(np.argmax(steps[last:first]))
    # Where two neighbours are alike again, and in full contrast, the one person stands alone.
    low, high = middle, middle + 1
    while low > change.last - 2 * WINDOW and low > 0 and (steps[low - 1] > calm[0] or contrast[low] < faded[0]):
        low -= 1
    while high < change.first + 2 * WINDOW and high < count - 1 and (steps[high] > calm[1] or contrast[high] < faded[1]):
        high += 1
    return Change(low, high)


def _sample(crop: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colours (T, 3) of a crop (3, S, S), reduced to ``SIDE`` pixels, at (T,) places."""
    small = cv2.merge([cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for plane in crop])
    sampled = cv2.remap(small, x[:, None], y[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled[:, 0].astype(np.float32) / 64


def _without_slope(colours: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Colours [F, T, 3] less the plane over the face that fits them best, as light from a side adds."""
    _, _, basis = _triangles()
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), -1)
    normal = (weights @ products).reshape(-1, 3, 3) + 1e-3 * np.eye(3, dtype=np.float32)
    fitted = np.linalg.solve(normal, basis.T @ (weights[..., None] * colours))
    return colours - basis @ fitted


@cache
def face_parts() -> np.ndarray:
    """bool (4, T): the whole face, its two sides and its upper half, each past the middle; a hand seldom hides them all."""
    _, x, y = _triangles()[2].T
    return np.stack([np.ones(len(x), bool), x < 0.2, x > -0.2, y > -0.2])


@cache
def _triangles() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, 3) triangles of the mesh but for lips and eyelids, which move most, the share (T,) of the frontal face that each
    covers, and (T, 3) one and their places on it in units of its size."""
    from mediapipe.tasks.python.vision import FaceLandmarksConnections as Marks  # a second to load

    edges = np.array([(mark.start, mark.end) for mark in Marks.FACE_LANDMARKS_TESSELATION])
    triangles = edges.reshape(-1, 3, 2)[..., 0]
    mouth, eyes = Marks.FACE_LANDMARKS_LIPS, (*Marks.FACE_LANDMARKS_LEFT_EYE, *Marks.FACE_LANDMARKS_RIGHT_EYE)
    moving = np.stack([np.isin(triangles, [mark.start for mark in part]).sum(1) for part in (mouth, eyes)], 1)
    triangles = triangles[(moving < 2).all(1)][::2]  # half of them are enough
    corners = canonical_face()[triangles][..., :2]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
    place = corners.mean(1)
    place = (place - place.mean(0)) / place.std(0)
    return triangles, area / area.sum(), np.concatenate([np.ones((len(place), 1)), place], 1).astype(np.float32)
