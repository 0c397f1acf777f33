"""Exact distances from points to a triangle mesh; numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

_NEIGHBOURS = 8


class Closest(NamedTuple):
    """Closest surface points (P, 3), their triangles (P,) and distances (P,)."""

    points: np.ndarray
    triangle: np.ndarray
    distance: np.ndarray


class Surface:
    """A triangle mesh to which the closest points are wanted many times.

    Triangles are sorted into classes of like size. Within a class no triangle reaches farther from its centroid than a known
    radius, so the search among nearest centroids can stop once the next one is provably too far: the answer is exact.

    Args:
        vertices: (N, 3). faces: (T, 3). Triangles without area are left out.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        corners = np.asarray(vertices, np.float64)[np.asarray(faces)]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(normals, axis=-1)
        proper = np.flatnonzero(area > 1e-14 * max(area.max(initial=0.0), 1e-30))
        if not len(proper):
            raise ValueError("the mesh has no triangle with an area")
        self.corners, self.triangle = corners[proper], proper
        self.normals = normals / np.where(area > 0, area, 1)[:, None]
        centroids = self.corners.mean(1)
        radius = np.linalg.norm(self.corners - centroids[:, None], axis=-1).max(1)
        size = np.floor(np.log2(radius)).astype(int)
        self._corner_tree = cKDTree(self.corners.reshape(-1, 3))
        self._classes = []
        for value in np.unique(size):
            members = np.flatnonzero(size == value)
            self._classes.append((members, cKDTree(centroids[members]), float(radius[members].max())))

    def closest(self, points: np.ndarray) -> Closest:
        """Closest points on the surface of points (P, 3); ``triangle`` indexes the mesh's faces."""
        points = np.asarray(points, np.float64)
        best, corner = self._corner_tree.query(points)
        where, which = self.corners.reshape(-1, 3)[corner], corner // 3
        for members, tree, radius in self._classes:
            todo = np.flatnonzero(tree.query(points)[0] - radius < best)
            count = min(_NEIGHBOURS, len(members))
            while len(todo):
                distance, near = tree.query(points[todo], k=np.arange(1, count + 1))
                found = closest_on_triangles(points[todo, None], self.corners[members[near]])
                gaps = np.linalg.norm(found - points[todo, None], axis=-1)
                pick = gaps.argmin(1)
                rows = np.arange(len(todo))
                better = gaps[rows, pick] < best[todo]
                chosen = todo[better]
                best[chosen], where[chosen] = gaps[rows, pick][better], found[rows, pick][better]
                which[chosen] = members[near[rows, pick]][better]
                if count == len(members):
                    break
                todo = todo[distance[:, -1] - radius < best[todo]]
                count = min(4 * count, len(members))
        return Closest(where, self.triangle[which], best)


def closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Closest points (..., 3) to points (..., 3) on triangles (..., 3, 3): inside, on an edge or at a corner.

    The foot of the perpendicular if it lies inside, else the nearest of the closest points on the three edges.
    """
    a, ab, ac = corners[..., 0, :], corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    ap = points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    scale = np.maximum(d00 * d11 - d01 * d01, np.finfo(np.float64).tiny)
    v, w = (d11 * d20 - d01 * d21) / scale, (d00 * d21 - d01 * d20) / scale
    # On an edge one parameter runs from 0 to 1; clipping it gives the corner.
    along_ab = np.clip(d20 / d00, 0, 1)
    along_ac = np.clip(d21 / d11, 0, 1)
    along_bc = np.clip((d00 - d01 - d20 + d21) / (d00 - 2 * d01 + d11), 0, 1)
    zero = np.zeros_like(v)
    options_v = np.stack([v, along_ab, zero, 1 - along_bc], -1)
    options_w = np.stack([w, zero, along_ac, along_bc], -1)
    gap = (
        options_v**2 * d00[..., None]
        + 2 * options_v * options_w * d01[..., None]
        + options_w**2 * d11[..., None]
        - 2 * (options_v * d20[..., None] + options_w * d21[..., None])
    )
    outside = (v < 0) | (w < 0) | (v + w > 1)
    gap[..., 0] = np.where(outside, np.inf, gap[..., 0])
    pick = gap.argmin(-1)[..., None]
    best_v, best_w = np.take_along_axis(options_v, pick, -1), np.take_along_axis(options_w, pick, -1)
    return a + best_v * ab + best_w * ac


def hausdorff(vertices_a: np.ndarray, faces_a: np.ndarray, vertices_b: np.ndarray, faces_b: np.ndarray) -> dict[str, float]:
    """Distances between two surfaces from their vertices: mean each way, their mean, and the true maximum, in their unit."""
    a_to_b = Surface(vertices_b, faces_b).closest(vertices_a).distance
    b_to_a = Surface(vertices_a, faces_a).closest(vertices_b).distance
    return {
        "a_to_b": float(a_to_b.mean()),
        "b_to_a": float(b_to_a.mean()),
        "mean": float((a_to_b.mean() + b_to_a.mean()) / 2),
        "maximum": float(max(a_to_b.max(), b_to_a.max())),
    }
