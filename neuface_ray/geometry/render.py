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
    """What the pixels of a box of the image see.

    Args:
        triangle: int32 [H, W], -1 for background. barycentric: float32 [H, W, 3]. depth: float32 [H, W] along the optical
            axis, growing away from the viewer, infinite for background. box: (left, top, right, bottom) in pixels.
    """

    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray
    box: Box

    @property
    def mask(self) -> np.ndarray:
        return self.triangle >= 0


@dataclass(frozen=True)
class Light:
    """A directional light: ``direction`` (3,) from the surface to the light in the view frame, ``colour`` (3,) or a grey."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float] | float = 1.0


STUDIO = (Light((-0.45, 0.55, 0.75), 0.62), Light((0.8, 0.1, 0.45), 0.22), Light((0.0, 0.9, -0.1), 0.12))


def rasterise(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: HeadCamera,
    size: tuple[int, int],
    box: Box | None = None,
    samples: int = 1,
    cull: bool = False,
) -> Raster:
    """Casts a ray through every pixel and keeps the first hit.

    Args:
        vertices: (N, 3) in the view frame. faces: (T, 3), counter-clockwise seen from outside. size: width and height.
        box: the part of the image to cast (left, top, right, bottom); all of it if None.
        samples: rays per pixel and axis; the raster is that many times finer.
        cull: triangles turned away from the viewer are left out, which halves the cost for a closed surface.
    """
    left, top, right, bottom = box = box or (0, 0, *size)
    width, height = (right - left) * samples, (bottom - top) * samples
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    kept = np.flatnonzero(_front_facing(vertices, faces, camera)) if cull else np.arange(len(faces))
    if width <= 0 or height <= 0 or not len(kept):
        empty = np.full((max(height, 0), max(width, 0)), -1, np.int32)
        return Raster(empty, np.zeros((*empty.shape, 3), np.float32), np.full(empty.shape, np.inf, np.float32), box)
    x = left + (np.arange(width) + 0.5) / samples
    y = top + (np.arange(height) + 0.5) / samples
    pixels = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    origins, directions = camera.rays(pixels, vertices)
    hits = RayCaster(vertices, faces[kept]).cast(origins, directions)
    hit = hits.triangle >= 0
    triangle = np.where(hit, kept[hits.triangle], -1).astype(np.int32)
    depth = np.full(len(pixels), np.inf, np.float32)
    at = np.broadcast_to(directions, origins.shape)[hit]
    depth[hit] = camera.depth(origins[hit] + hits.distance[hit, None] * at)
    shape = (height, width)
    return Raster(triangle.reshape(shape), hits.barycentric.reshape(*shape, 3), depth.reshape(shape), box)


def interpolate(raster: Raster, faces: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Vertex attributes (N, C) at the pixels, float32 [H, W, C], 0 in the background.

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


def lambert(normals: np.ndarray, ambient: float = 0.25, lights: tuple[Light, ...] = STUDIO) -> np.ndarray:
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
    normals *= np.where(normals[..., 2:] < 0, -1, 1)
    colour = np.asarray(colour, np.float32)
    if colour.ndim == 2:
        colour = interpolate(raster, faces, colour)
    half = np.array([-0.25, 0.35, 0.9], np.float32)
    highlight = gloss * np.clip(normals @ (half / np.linalg.norm(half)), 0, None) ** 24
    picture = np.clip(colour * light(normals) + highlight[..., None], 0, 1)
    return np.where(raster.mask[..., None], picture, 0).astype(np.float32)


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
    colour: np.ndarray | tuple[float, float, float] = (0.62, 0.71, 0.82),
    alpha: float = 0.85,
    samples: int = 2,
) -> np.ndarray:
    """Lays the shaded mesh over an image of any size; rays are cast only where the mesh can be.

    Args:
        image: uint8 [H, W, 3], not changed. vertices: (N, 3) in the view frame. colour: (3,) or (N, 3) in [0, 1].
        alpha: opacity. samples: rays per pixel and axis, for smooth edges.

    Returns:
        uint8 [H, W, 3].
    """
    out = image.copy()
    left, top, right, bottom = box = projected_box(vertices, camera, (image.shape[1], image.shape[0]))
    if right <= left or bottom <= top:
        return out
    raster = rasterise(vertices, faces, camera, (image.shape[1], image.shape[0]), box, samples, cull=True)
    picture = shade(raster, vertices, faces, colour, gloss=0.12)
    picture, cover = _shrink(picture, samples), _shrink(raster.mask.astype(np.float32), samples)[..., None]
    under = out[top:bottom, left:right].astype(np.float32) / 255
    blended = under * (1 - alpha * cover) + alpha * picture
    out[top:bottom, left:right] = np.rint(np.clip(blended, 0, 1) * 255).astype(np.uint8)
    return out


def _front_facing(vertices: np.ndarray, faces: np.ndarray, camera: HeadCamera) -> np.ndarray:
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return (np.cross(b - a, c - a) * camera.towards_viewer(a)).sum(-1) > 0


def _shrink(picture: np.ndarray, samples: int) -> np.ndarray:
    height, width = picture.shape[0] // samples, picture.shape[1] // samples
    return picture.reshape(height, samples, width, samples, *picture.shape[2:]).mean((1, 3))
