"""Completes meshes of the face region to whole heads, and takes expressions out of them, by the nearest head of the model."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from neuface_ray.geometry.mesh import boundary_edges, unique_edges
from neuface_ray.heads.model import HeadModel
from neuface_ray.heads.restrict import restrict

BLENDED_RINGS = 2


class Completion:
    """Fits identity and expression to meshes of a head's region ``face`` by linear least squares.

    The fit is the most probable one for standard normal coefficients and independent vertex errors: a ridge regression whose
    pseudo-inverse is computed once. Meshes are in the head frame, metres, with all joints at rest. Any leading dimensions.

    Args:
        head: the model, whose device and type the matrices take.
        noise_mm: standard deviation of the vertex errors that is allowed for. The default is exact for heads of the model;
            a larger one draws what the face does not show, such as the back of the head, towards the mean head.
    """

    def __init__(self, head: HeadModel, noise_mm: float = 0.01):
        self.head, self.face = head, head.regions["face"]
        self.face_head = restrict(head, self.face)
        basis = torch.cat([self.face_head.shape_basis, self.face_head.expression_basis], -1).double().flatten(0, 1)
        ridge = (1e-3 * noise_mm) ** 2 * torch.eye(basis.shape[1], dtype=basis.dtype, device=basis.device)
        self.inverse = torch.linalg.solve(basis.T @ basis + ridge, basis.T).to(head.template.dtype)
        self.share = blend_weights(self.face_head.template, self.face_head.faces, BLENDED_RINGS)

    def coefficients(self, face: Tensor) -> tuple[Tensor, Tensor]:
        """Identity (..., S) and expression (..., E) of the head nearest to ``face`` (..., M, 3), M the size of the region.

        Expression weights of bounded heads are cut to [0, 1].
        """
        fitted = (face - self.face_head.template).flatten(-2) @ self.inverse.T
        shape, expression = fitted.split([self.head.n_shape, self.head.n_expression], -1)
        return shape, expression.clamp(0, 1) if self.head.expression_bounded else expression

    def complete(self, face: Tensor) -> Tensor:
        """The fitted head (..., N, 3) with the face (..., M, 3) itself in its place, blended over its outermost two rings."""
        fitted = self.head(*self.coefficients(face))
        blended = torch.lerp(fitted[..., self.face, :], face, self.share[:, None])
        return fitted.index_copy(-2, self.face, blended)

    def without_expression(self, face: Tensor) -> Tensor:
        """The face (..., M, 3) less the displacement of the fitted expression; what the model does not explain stays."""
        _, expression = self.coefficients(face)
        return face - (self.face_head(expression=expression) - self.face_head.template)


def blend_weights(vertices: Tensor, faces: Tensor, rings: int) -> Tensor:
    """Weights (N,) that rise linearly from the outer boundary of a mesh inwards: ring k = 0, 1, ... has (k + 1) / (rings + 1).

    The outer boundary is the longest of the boundary loops of vertices (N, 3) and triangles (T, 3); ring k lies k edges from
    it. From ring ``rings`` on the weight is 1.
    """
    edges = unique_edges(faces)
    ring = torch.full(vertices.shape[:1], rings, device=vertices.device)
    reached = outer_loop(vertices, faces)
    for number in range(rings):
        ring[reached] = ring[reached].clamp(max=number)
        touched = torch.isin(edges, reached).any(-1)
        reached = edges[touched].unique()
    return (ring + 1).to(vertices.dtype) / (rings + 1)


def outer_loop(vertices: Tensor, faces: Tensor) -> Tensor:
    """Ascending indices of the vertices on the longest boundary loop of a mesh.

    Raises:
        ValueError: the surface is closed.
    """
    edges = boundary_edges(faces)
    if not len(edges):
        raise ValueError("a closed surface has no boundary")
    first, second = edges.cpu().numpy().T
    _, loop_of_vertex = connected_components(coo_matrix((np.ones(len(first)), (first, second)), (len(vertices),) * 2), False)
    loop = torch.as_tensor(loop_of_vertex[first], dtype=torch.int64, device=faces.device)
    length = (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=-1)
    perimeter = length.new_zeros(int(loop.max()) + 1).index_add(0, loop, length)
    return edges[loop == perimeter.argmax()].unique()
