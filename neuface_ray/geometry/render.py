"""A small CPU renderer: which triangle a pixel sees, what is interpolated there, how it is lit, and laying it over an image.

Pictures are float arrays in [0, 1] unless they are said to be uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

from neuface_ray.geometry import mesh
from neuface_ray.geometry.rays import HeadCamera, RayCaster

Box = tuple[int, int, int, int]


class Raster(NamedTuple):
    """What pixels see: triangle int32 [...], -1 for background; barycentric float32 [..., 3]; depth float32 [...] along the
    optical axis, growing away from the viewer, infinite for background."""

    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        return self.triangle >= 0

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Raster:
        """A raster of that shape that sees only background."""
        return cls(np.full(shape, -1, np.int32), np.zeros((*shape, 3), np.float32), np.full(shape, np.inf, np.float32))


@dataclass(frozen=True)
class Light:
    """A directional light: ``direction`` (3,) from the surface to the light in the view frame, ``colour`` (3,) or a grey."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float] | float = 1.0


CLAY = (0.62, 0.71, 0.82)
GLOSS = 0.12
STUDIO = (Light((-0.5, 0.55, 0.7), 0.78), Light((0.85, 0.15, 0.4), 0.26), Light((0.0, 0.9, 0.1), 0.12))


class View:
    """A mesh before a camera, ready to be asked what any pixel sees.

    Args:
        vertices: (N, 3) in the view frame. faces: (T, 3), counter-clockwise seen from outside.
        cull: triangles turned away from the viewer are left out, which halves the cost for a closed surface.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, camera: HeadCamera, cull: bool = False):
        self.vertices, self.faces, self.camera = np.asarray(vertices, np.float64), np.asarray(faces), camera
        self._kept = np.flatnonzero(_front_facing(self.vertices, self.faces, camera)) if cull else np.arange(len(faces))
        self._caster = RayCaster(self.vertices, self.faces[self._kept]) if len(self._kept) else None

    def at(self, pixels: np.ndarray) -> Raster:
        """What the points (..., 2) of the image see, as a raster of that shape."""
        shape, flat = pixels.shape[:-1], pixels.reshape(-1, 2)
        raster = Raster.empty((len(flat),))
        if len(flat) and self._caster is not None:
            origins, directions = self.camera.rays(flat, self.vertices)
            hits = self._caster.cast(origins, directions)
            hit = np.flatnonzero(hits.triangle >= 0)
            raster.triangle[hit], raster.barycentric[:] = self._kept[hits.triangle[hit]], hits.barycentric
            along = directions if directions.ndim == 1 else directions[hit]
            raster.depth[hit] = self.camera.depth(origins[hit] + hits.distance[hit, None] * along)
        return Raster(*(part.reshape(*shape, *part.shape[1:]) for part in raster))


def rasterise(
    vertices: np.ndarray, faces: np.ndarray, camera: HeadCamera, size: tuple[int, int], samples: int = 1, cull: bool = False
) -> Raster:
    """Casts a ray through every pixel of an image and keeps the first hit.

    Args:
        vertices, faces, cull: as in `View`. size: width and height. samples: rays per pixel and axis; the raster is that many
            times finer.

    Returns:
        `Raster` of [height * samples, width * samples].
    """
    return View(vertices, faces, camera, cull).at(_centres((0, 0, *size), samples))


def interpolate(raster: Raster, faces: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Vertex attributes (N, C) at the pixels, float32 [..., C], 0 in the background.

    ``faces`` may be the (T, 3) of the mesh or those of its texture coordinates.
    """
    out = np.zeros((*raster.triangle.shape, attributes.shape[-1]), np.float32)
    mask = raster.mask
    corners = np.asarray(attributes, np.float32)[np.asarray(faces)[raster.triangle[mask]]]
    out[mask] = np.einsum("pk,pkc->pc", raster.barycentric[mask], corners)
    return out


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear look-up of a texture [h, w, 3] at uv [H, W, 2] in [0, 1], v upwards (Wavefront): float32 [H, W, 3]."""
    height, width = texture.shape[:2]
    x = (uv[..., 0] * width - 0.5).astype(np.float32)
    y = ((1 - uv[..., 1]) * height - 0.5).astype(np.float32)
    return cv2.remap(texture.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def lambert(normals: np.ndarray, ambient: float = 0.3, lights: tuple[Light, ...] = STUDIO) -> np.ndarray:
    """Light [..., 3] that arrives at unit normals [..., 3] from directional lights on an ambient floor."""
    total = np.full(normals.shape, ambient, np.float32)
    for light in lights:
        direction = np.asarray(light.direction, np.float32)
        cosine = np.clip(normals @ (direction / np.linalg.norm(direction)), 0, None)
        total += cosine[..., None] * np.asarray(light.colour, np.float32)
    return total


def spherical_harmonics(normals: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Irradiance [..., C] at unit normals [..., 3] from nine radiance coefficients (9, C) of real spherical harmonics.

    Bands 0 to 2 in the order (0,0) (1,-1) (1,0) (1,1) (2,-2) (2,-1) (2,0) (2,1) (2,2). Source: Ramamoorthi and Hanrahan, "An
    Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001, divided by pi so that a constant 1 gives 1.
    """
    x, y, z = np.moveaxis(np.asarray(normals, np.float32), -1, 0)
    one = np.ones_like(x)
    first = 0.488603 * 2 / 3
    second = 1.092548 / 4
    basis = [0.282095 * one, first * y, first * z, first * x, second * x * y, second * y * z]
    basis += [0.315392 / 4 * (3 * z * z - 1), second * x * z, 0.546274 / 4 * (x * x - y * y)]
    return np.stack(basis, -1) @ np.asarray(coefficients, np.float32)


def shade(
    raster: Raster,
    vertices: np.ndarray,
    faces: np.ndarray,
    colour: np.ndarray | tuple[float, float, float],
    light: Callable[[np.ndarray], np.ndarray] = lambert,
    gloss: float = 0.0,
) -> np.ndarray:
    """Picture float32 [H, W, 3] in [0, 1] of a raster: colour times the light at the smooth normal, plus a soft highlight.

    Args:
        colour: (3,) for all, (N, 3) at the vertices or [H, W, 3] at the pixels. light: function of unit normals [..., 3].
        gloss: strength of a broad highlight towards the viewer.
    """
    normals = interpolate(raster, faces, smooth_normals(vertices, faces))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    colour = np.asarray(colour, np.float32)
    if colour.ndim == 2:
        colour = interpolate(raster, faces, colour)
    return np.where(raster.mask[..., None], illuminate(normals, colour, light, gloss), 0)


def illuminate(
    normals: np.ndarray, colour: np.ndarray, light: Callable[[np.ndarray], np.ndarray] = lambert, gloss: float = 0.0
) -> np.ndarray:
    """Colour [..., 3] times the light at unit normals [..., 3], plus a soft highlight; float32 in [0, 1].

    Normals that point away from the viewer are turned round, so that the inside of an open surface is lit as well.
    """
    normals = np.asarray(normals, np.float32) * np.where(normals[..., 2:] < 0, -1, 1).astype(np.float32)
    half = np.array([-0.25, 0.35, 0.9], np.float32)
    highlight = gloss * np.clip(normals @ (half / np.linalg.norm(half)), 0, None) ** 24
    return np.clip(np.asarray(colour, np.float32) * light(normals) + highlight[..., None], 0, 1)


def smooth_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit vertex normals (N, 3) of a mesh in numpy."""
    points, triangles = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    return mesh.vertex_normals(torch.from_numpy(points), torch.from_numpy(triangles)).numpy()


def projected_box(vertices: np.ndarray, camera: HeadCamera, size: tuple[int, int]) -> Box:
    """The pixels (left, top, right, bottom) of an image that a mesh can cover; all of it when the mesh reaches the camera."""
    width, height = size
    if not (camera.depth(vertices) > 1e-3).all() and hasattr(camera, "intrinsics"):
        return (0, 0, width, height)
    points = camera.project(np.asarray(vertices, np.float64))
    low, high = np.floor(points.min(0)).astype(int) - 1, np.ceil(points.max(0)).astype(int) + 1
    left, top = np.clip(low, 0, [width, height])
    right, bottom = np.clip(high, 0, [width, height])
    return (int(left), int(top), int(right), int(bottom))


def draw_mesh(
    image: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: HeadCamera,
    colour: np.ndarray | tuple[float, float, float] = CLAY,
    alpha: float | np.ndarray = 0.85,
    samples: int = 2,
) -> np.ndarray:
    """Lays the shaded mesh over an image of any size; rays are cast only where the mesh can be.

    Every second pixel is enough where the mesh is smooth, which is most of it; the others are cast along edges.

    Args:
        image: uint8 [H, W, 3], not changed. vertices: (N, 3) in the view frame. colour: (3,) or (N, 3) in [0, 1].
        alpha: opacity, for all or (N,) at the vertices. samples: rays per pixel and axis along edges.

    Returns:
        uint8 [H, W, 3].
    """
    out = image.copy()
    left, top, right, bottom = projected_box(vertices, camera, (image.shape[1], image.shape[0]))
    if right <= left or bottom <= top:
        return out
    # A dense mesh is lit at its vertices: as smooth as lighting every pixel, and several times faster.
    lit = illuminate(smooth_normals(vertices, faces), np.broadcast_to(colour, (len(vertices), 3)), gloss=GLOSS)
    opacity = np.broadcast_to(alpha, len(vertices))[:, None]
    paint = np.concatenate([opacity * lit, opacity], -1)
    view = View(vertices, faces, camera, cull=True)
    across, down = -(-(right - left) // 2), -(-(bottom - top) // 2)
    blocks = _centres((0, 0, across, down), 1) * 2 + [left, top]
    coarse = interpolate(view.at(blocks), faces, paint)
    layer = cv2.resize(coarse, (2 * across, 2 * down))
    edges = _edges(coarse).repeat(2, 0).repeat(2, 1)
    y, x = np.nonzero(edges)
    finer = np.stack([x + left, y + top], -1)[:, None] + _centres((0, 0, 1, 1), samples).reshape(-1, 2)
    layer[y, x] = interpolate(view.at(finer), faces, paint).mean(1)
    layer = layer[: bottom - top, : right - left]
    under = out[top:bottom, left:right]
    blended = under * (1 - layer[..., 3:]) + layer[..., :3] * 255
    out[top:bottom, left:right] = np.rint(np.clip(blended, 0, 255)).astype(np.uint8)
    return out


def _centres(box: Box, samples: int) -> np.ndarray:
    """Centres [H, W, 2] of the pixels of a box, or of their ``samples`` by ``samples`` parts."""
    left, top, right, bottom = box
    x = left + (np.arange(max(right - left, 0) * samples) + 0.5) / samples
    y = top + (np.arange(max(bottom - top, 0) * samples) + 0.5) / samples
    return np.stack(np.meshgrid(x, y), -1)


def _edges(layer: np.ndarray, jump: float = 0.2) -> np.ndarray:
    """bool [H, W]: pixels of a float32 picture [H, W, C] in [0, 1] whose neighbours differ by more than ``jump``."""
    kernel = np.ones((3, 3), np.uint8)
    return (cv2.dilate(layer, kernel) - cv2.erode(layer, kernel)).max(-1) > jump


def _front_facing(vertices: np.ndarray, faces: np.ndarray, camera: HeadCamera) -> np.ndarray:
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return (np.cross(b - a, c - a) * camera.towards_viewer(a)).sum(-1) > 0
