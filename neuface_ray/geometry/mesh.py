"""Triangle-mesh operators on tensors: normals, edges and points given by triangle and barycentric coordinates."""

from __future__ import annotations

import torch
from torch import Tensor


def face_normals(vertices: Tensor, faces: Tensor, unit: bool = True) -> Tensor:
    """Normals of triangles, outward where vertices run counter-clockwise seen from outside.

    Args:
        vertices: (..., N, 3). faces: (T, 3) int64.
        unit: normalise; else the length is twice the triangle's area.

    Returns:
        (..., T, 3); zero for degenerate triangles.
    """
    a, b, c = (vertices.index_select(-2, faces[:, k]) for k in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-30) if unit else normals


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (..., N, 3) at vertices (..., N, 3): the area-weighted mean of the adjoining triangles' normals.

    Vertices that no triangle uses get zero.
    """
    weighted = face_normals(vertices, faces, unit=False)
    sums = torch.zeros_like(vertices)
    for corner in range(3):
        sums = sums.index_add(-2, faces[:, corner], weighted)
    return torch.nn.functional.normalize(sums, dim=-1, eps=1e-30)


def interpolate(values: Tensor, faces: Tensor, face_index: Tensor, barycentric: Tensor) -> Tensor:
    """Values at surface points given by triangle and barycentric coordinates.

    Args:
        values: (..., N, C) per vertex. faces: (T, 3). face_index: (..., P) int64; barycentric: (..., P, 3). The leading
            dimensions of the points are those of the values, or none (the same points for every element).

    Returns:
        (..., P, C).
    """
    corners = faces[face_index]
    if face_index.ndim == 1:
        gathered = values[..., corners, :]
    else:
        index = corners.flatten(-2)[..., None].expand(*corners.shape[:-2], -1, values.shape[-1])
        gathered = values.gather(-2, index).unflatten(-2, corners.shape[-2:])
    return (gathered * barycentric[..., None].to(values.dtype)).sum(-2)


def unique_edges(faces: Tensor) -> Tensor:
    """Undirected edges (M, 2) of triangles (T, 3), each once, smaller vertex first, sorted."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return torch.unique(edges.sort(-1).values, dim=0)


def boundary_edges(faces: Tensor) -> Tensor:
    """Edges (M, 2) that belong to one triangle of (T, 3) only, smaller vertex first, sorted; none for a closed surface."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    unique, count = torch.unique(edges.sort(-1).values, dim=0, return_counts=True)
    return unique[count == 1]
