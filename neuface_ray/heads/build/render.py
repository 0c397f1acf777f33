"""Plain coloured pictures of a head, and rays back from their pixels to its surface (orthographic)."""

from __future__ import annotations

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector


class Stage:
    """A turned head before an orthographic camera; x right, y up, z to the viewer.

    Args:
        vertices: (N, 3) in the head frame. triangles: (T, 3). rotation: (3, 3).
        size: pixels of a side; extent: metres shown on a side. centre: (2,) of the picture after the rotation.
    """

    def __init__(self, vertices, triangles, rotation, size=512, extent=0.32, centre=(0.0, 0.0)):
        self.size, self.extent, self.centre = size, extent, np.asarray(centre)
        self.mesh = trimesh.Trimesh(vertices @ rotation.T, triangles, process=False)
        self.rays = RayMeshIntersector(self.mesh)

    def cast(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First triangle (-1 for none) and barycentric coordinates under pixels (P, 2), centres at +0.5, y down."""
        pixels = np.asarray(pixels, dtype=np.float64)
        plane = (pixels / self.size - 0.5) * self.extent * [1, -1] + self.centre
        origins = np.concatenate([plane, np.full((len(plane), 1), 1.0)], 1)
        directions = np.tile([0.0, 0.0, -1.0], (len(plane), 1))
        triangle = self.rays.intersects_first(origins, directions)
        corners = self.mesh.triangles[triangle]
        return triangle, _planar_barycentric(plane, corners[..., :2])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (P, 2) of points (P, >= 2) that are already turned."""
        return ((points[:, :2] - self.centre) * [1, -1] / self.extent + 0.5) * self.size

    def picture(self, colour, light=(0.25, 0.35, 0.9), background=(120, 130, 140)) -> np.ndarray:
        """uint8 (size, size, 3). ``colour(triangle, barycentric)`` gives (P, 3) albedo in 0..255."""
        columns, rows = np.meshgrid(np.arange(self.size) + 0.5, np.arange(self.size) + 0.5)
        triangle, barycentric = self.cast(np.stack([columns.ravel(), rows.ravel()], 1))
        hit = triangle >= 0
        image = np.tile(np.asarray(background, dtype=np.float64), (self.size**2, 1))
        normals = (self.mesh.vertex_normals[self.mesh.faces[triangle[hit]]] * barycentric[hit, :, None]).sum(1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        direction = np.asarray(light) / np.linalg.norm(light)
        shading = 0.45 + 0.6 * (normals @ direction).clip(0)
        image[hit] = colour(triangle[hit], barycentric[hit]) * shading[:, None]
        return image.clip(0, 255).astype(np.uint8).reshape(self.size, self.size, 3)


def _planar_barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentric coordinates (P, 3) of planar points (P, 2) in triangles (P, 3, 2)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-20, 1e-20, area)
    v = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    w = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    result = np.stack([1 - v - w, v, w], 1).clip(0, 1)
    return result / result.sum(1, keepdims=True)
