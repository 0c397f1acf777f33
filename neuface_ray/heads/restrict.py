"""A head computed at some of its vertices only, for objectives that touch few of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from neuface_ray.heads.model import HeadModel


def landmark_vertices(head: HeadModel, scheme: str) -> Tensor:
    """Ascending int64 indices of all vertices that the landmarks of ``scheme``, its contour included, depend on."""
    triangles = [head.embedding(scheme).face_index]
    if scheme == "ibug68" and head.contour is not None:
        triangles.append(head.contour.face_index.flatten())
    return head.faces[torch.cat(triangles)].unique()


def restrict(head: HeadModel, vertices: Tensor) -> HeadModel:
    """The same head with only some vertices.

    Args:
        head: stays unchanged; arrays that do not depend on vertices are shared with it.
        vertices: (M,) ascending indices.

    Returns:
        A head whose vertex i is vertex ``vertices[i]`` of the full one, with the same joints. It keeps the triangles that
        lie wholly within, and the landmarks on those; other landmarks become invalid. Its UVs and regions are dropped.
    """
    small = copy.copy(head)
    buffers = dict(head._buffers)
    for key in ("template", "shape_basis", "expression_basis", "skinning_weights", "pose_basis"):
        if buffers[key] is not None:
            buffers[key] = buffers[key][vertices]
    place = torch.full((head.n_vertices,), -1, dtype=torch.int64, device=vertices.device)
    place[vertices] = torch.arange(len(vertices), device=vertices.device)
    kept = (place[head.faces] >= 0).all(-1)
    triangle = torch.where(kept, kept.cumsum(0) - 1, -1)
    buffers["faces"] = place[head.faces[kept]]
    buffers["uv"] = buffers["uv_faces"] = None
    for key in [key for key in head._extras if not key.startswith("region/")]:
        if key.endswith("face_index"):
            name = key.replace("/", "__")
            moved = triangle[buffers[name]]
            buffers[name] = moved.clamp_min(0)
            if key.startswith("landmark/"):
                valid = name.removesuffix("face_index") + "valid"
                buffers[valid] = buffers[valid] & (moved >= 0)
    small._buffers = buffers
    small._extras = [key for key in head._extras if not key.startswith("region/")]
    return small
