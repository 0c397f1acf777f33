"""Skin, lips, lids, brows, hair and eyes in plausible colours, so that a landmark detector sees a face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuface_ray.geometry import render
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.heads.build.anny_head import PARTS

IRIS_RADIUS, PUPIL_RADIUS = 0.0059, 0.0022
TEETH, MOUTH, SCLERA, PUPIL = (0.85, 0.82, 0.76), (0.36, 0.13, 0.13), (0.90, 0.88, 0.87), (0.04, 0.03, 0.03)

# A brow above the subject's left eye: its middle line (x, y) from the centre of the eyeball, and its half width, metres. It
# follows the upper rim of the orbit, begins above the inner and ends beyond the outer corner of the eye.
BROW_LINE = np.array([(-0.018, 0.0125), (-0.005, 0.0165), (0.008, 0.0175), (0.017, 0.0150), (0.024, 0.0105)])
BROW_WIDTH = np.array([0.0036, 0.0037, 0.0031, 0.0023, 0.0012])


@dataclass(frozen=True)
class PortraitScene:
    """What a picture shows: colours in [0, 1] of a person and the background; ``light`` (3,) points to the main light."""

    skin: tuple[float, float, float]
    lips: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    background: tuple[float, float, float]
    light: tuple[float, float, float]


def sample_portrait_scene(random: np.random.Generator) -> PortraitScene:
    """Sample a random person before a background of one colour."""
    tones = np.array([(0.90, 0.74, 0.66), (0.80, 0.61, 0.50), (0.63, 0.44, 0.34), (0.42, 0.28, 0.21)])
    skin = tones[random.integers(len(tones))] * random.uniform(0.92, 1.05)
    hair = np.array([(0.10, 0.07, 0.06), (0.22, 0.15, 0.10), (0.36, 0.26, 0.18)])[random.integers(3)]
    iris = np.array([(0.26, 0.17, 0.10), (0.38, 0.33, 0.24), (0.35, 0.42, 0.48)])[random.integers(3)]
    lips = skin * [0.93, 0.66, 0.68]
    light = (random.uniform(-0.6, 0.6), random.uniform(0.1, 0.8), 0.8)
    return PortraitScene(*(tuple(np.clip(c, 0, 1)) for c in (skin, lips, hair, iris, random.uniform(0.15, 0.85, 3))), light)


class Painter:
    """Colours the surface of the mean head; every other head carries the colours along with its triangles.

    Args:
        mean: (N, 3). triangles: (T, 3). regions: vertex indices. part: index into PARTS of each triangle. masks: painted
            masks in [0, 1] at the vertices (`AnnyHead.masks`).
    """

    def __init__(self, mean, triangles, regions, part, masks):
        self.mean, self.triangles, self.masks = mean, triangles, masks
        self.eye = np.isin(part, [i for i, name in enumerate(PARTS) if name.startswith(("eye_front", "eye_back"))])
        self.teeth, self.skin = part == PARTS.index("teeth"), part == PARTS.index("head")
        self.centres = {side: mean[regions[f"{side}_eye"]].mean(0) for side in ("left", "right")}
        self.axes = {side: _gaze_axis(mean[regions[f"{side}_eye"]]) for side in ("left", "right")}

    def render_head(
        self, head: np.ndarray, rotation: np.ndarray, camera: PinholeCamera, size: int, scene: PortraitScene
    ) -> np.ndarray:
        """Render a head (N, 3) turned by (3, 3): uint8 (size, size, 3)."""
        vertices = head @ rotation.T
        raster = render.rasterise(vertices, self.triangles, camera, (size, size))
        albedo = np.zeros((size, size, 3), np.float32)
        points = render.interpolate(raster, self.triangles, self.mean)
        masks = render.interpolate(raster, self.triangles, np.stack([self.masks[k] for k in ("lips", "lids", "face")], -1))
        hit = raster.mask
        albedo[hit] = self._albedo(raster.triangle[hit], points[hit], masks[hit], scene)
        lights = (render.Light(scene.light, 0.75), render.Light((0.3, 0.2, 0.9), 0.2))
        image = render.shade(raster, vertices, self.triangles, albedo, lambda n: render.lambert(n, 0.32, lights), gloss=0.06)
        image = np.where(hit[..., None], image, np.asarray(scene.background, np.float32))
        return (255 * image.clip(0, 1)).astype(np.uint8)

    def _albedo(self, triangle, points, masks, scene: PortraitScene) -> np.ndarray:
        skin, teeth, eye = self.skin[triangle], self.teeth[triangle], self.eye[triangle]
        colour = np.tile(np.asarray(MOUTH), (len(triangle), 1))
        colour[teeth] = TEETH
        lips, lids, face = (masks[skin, k : k + 1] for k in range(3))
        base = np.asarray(scene.skin)
        base = base + (np.asarray(scene.lips) - base) * _step(lips, 0.35, 0.65)
        base = base * (1 - 0.35 * _step(lids, 0.4, 0.9))
        hair = (1 - _step(face, 0.1, 0.5)) * _step(points[skin, 1:2], 0.005, 0.02)
        hairy = np.maximum(hair, 0.85 * self._brow_cover(points[skin])[:, None])
        colour[skin] = base + (np.asarray(scene.hair) - base) * hairy
        for side in ("left", "right"):
            eyeball = eye & ((points[:, 0] > 0) == (side == "left"))
            offset = points[eyeball] - self.centres[side]
            along = offset @ self.axes[side]
            across = np.linalg.norm(offset - along[:, None] * self.axes[side], axis=1)
            iris, pupil = (along > 0) & (across < IRIS_RADIUS), (along > 0) & (across < PUPIL_RADIUS)
            shade = np.where(pupil[:, None], PUPIL, np.where(iris[:, None], scene.iris, SCLERA))
            colour[eyeball] = shade
        return colour

    def _brow_cover(self, points: np.ndarray) -> np.ndarray:
        """How much of a brow (P,) covers points (P, 3) of the skin."""
        centre = self.centres["left"]
        point = np.stack([np.abs(points[:, 0]) - centre[0], points[:, 1] - centre[1]], -1)
        middle = np.interp(point[:, 0], BROW_LINE[:, 0], BROW_LINE[:, 1])
        width = np.interp(point[:, 0], BROW_LINE[:, 0], BROW_WIDTH, left=0, right=0)
        inside = 1 - _step(np.abs(point[:, 1] - middle), width - 0.001, width + 0.001)
        return np.where((width > 0) & (points[:, 2] > 0.03), inside, 0)


def _gaze_axis(eyeball: np.ndarray) -> np.ndarray:
    """Unit vector (3,) from the centre of an eyeball (M, 3) to the middle of its foremost ring of vertices."""
    offset = eyeball - eyeball.mean(0)
    front = offset[offset[:, 2] > 0.9 * offset[:, 2].max()].mean(0)
    return front / np.linalg.norm(front)


def _step(values: np.ndarray, low, high) -> np.ndarray:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
