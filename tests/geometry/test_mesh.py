"""Normals, interpolation and edges against naive twins and closed forms."""

import numpy as np
import torch
import trimesh

from neuface_ray.geometry.mesh import boundary_edges, face_normals, interpolate, unique_edges, vertex_normals
from neuface_ray.geometry.rotations import rotvec_to_matrix

SPHERE = trimesh.creation.icosphere(subdivisions=2)
FACES = torch.as_tensor(np.asarray(SPHERE.faces))
VERTICES = torch.as_tensor(np.asarray(SPHERE.vertices))


def test_vertex_normals_match_a_naive_sum_over_triangles():
    vertices = VERTICES + 0.05 * torch.randn(VERTICES.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = np.zeros(vertices.shape)
    for a, b, c in FACES.tolist():
        points = vertices[[a, b, c]].numpy()
        expected[[a, b, c]] += np.cross(points[1] - points[0], points[2] - points[0])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vertex_normals(vertices, FACES).numpy(), expected, atol=1e-12)


def test_sphere_normals_point_outward_and_turn_with_the_mesh():
    batch = torch.stack([VERTICES, 2 * VERTICES])
    normals = vertex_normals(batch, FACES)
    assert ((normals * VERTICES).sum(-1) > 0.99).all()
    assert ((face_normals(VERTICES, FACES) * VERTICES[FACES].mean(1)).sum(-1) > 0.9).all()
    rotation = rotvec_to_matrix(torch.tensor([0.3, -1.2, 0.5], dtype=torch.float64))
    torch.testing.assert_close(vertex_normals(VERTICES @ rotation.T, FACES), normals[0] @ rotation.T)


def test_degenerate_and_unused_geometry_gives_zero_not_nan():
    vertices = torch.zeros(2, 4, 3, requires_grad=True)
    faces = torch.tensor([[0, 1, 2]])
    normals = vertex_normals(vertices, faces)
    normals.sum().backward()
    assert (normals == 0).all()
    assert torch.isfinite(vertices.grad).all()
    assert vertex_normals(torch.zeros(0, 4, 3), faces).shape == (0, 4, 3)


def test_normals_gradient():
    vertices = VERTICES[:12].clone().requires_grad_()
    faces = FACES[(FACES < 12).all(1)] if (FACES < 12).all(1).any() else torch.tensor([[0, 1, 2], [2, 3, 4], [5, 6, 7]])
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, faces)[faces.unique()], vertices)


def test_interpolation_with_shared_and_own_points():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(3, 5, len(VERTICES), 4, generator=generator, dtype=torch.float64)
    index = torch.randint(0, len(FACES), (3, 5, 7), generator=generator)
    weights = torch.rand(3, 5, 7, 3, generator=generator, dtype=torch.float64)
    result = interpolate(values, FACES, index, weights)
    for i in range(3):
        for j in range(5):
            corners = values[i, j][FACES[index[i, j]]]
            torch.testing.assert_close(result[i, j], (corners * weights[i, j][..., None]).sum(-2))
    shared = interpolate(values, FACES, index[0, 0], weights[0, 0])
    assert shared.shape == (3, 5, 7, 4)
    torch.testing.assert_close(shared[0, 0], result[0, 0])


def test_edges_of_a_closed_surface_obey_euler():
    edges = unique_edges(FACES)
    assert len(edges) == len(VERTICES) + len(FACES) - 2
    assert (edges[:, 0] < edges[:, 1]).all()
    assert len(torch.unique(edges, dim=0)) == len(edges)


def test_boundary_edges_are_those_of_one_triangle():
    assert len(boundary_edges(FACES)) == 0
    cap = FACES[(VERTICES[FACES][..., 2] > 0).all(1)]
    counts: dict[tuple[int, int], int] = {}
    for triangle in cap.tolist():
        for k in range(3):
            edge = tuple(sorted((triangle[k], triangle[(k + 1) % 3])))
            counts[edge] = counts.get(edge, 0) + 1
    expected = sorted(list(edge) for edge, count in counts.items() if count == 1)
    assert expected
    assert boundary_edges(cap).tolist() == expected
