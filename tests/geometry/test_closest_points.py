import numpy as np
import pytest
import trimesh

from neuface_ray.geometry.closest_points import Surface, closest_on_triangles, hausdorff


def nearest_by_sampling(point, corners, n=200):
    """Closest point by brute force over a fine barycentric grid, then the same over the cell around the best."""
    low, high = np.zeros(2), np.ones(2)
    for _ in range(6):
        v, w = np.meshgrid(np.linspace(low[0], high[0], n), np.linspace(low[1], high[1], n))
        inside = (v >= 0) & (w >= 0) & (v + w <= 1 + 1e-12)
        v, w = v[inside], w[inside]
        points = corners[0] + v[:, None] * (corners[1] - corners[0]) + w[:, None] * (corners[2] - corners[0])
        best = np.linalg.norm(points - point, axis=-1).argmin()
        span = (high - low) / n * 2
        low, high = np.array([v[best], w[best]]) - span, np.array([v[best], w[best]]) + span
    return points[best]


def test_closest_on_triangle_in_every_region():
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(40, 3, 3))
    points = rng.normal(scale=2, size=(40, 3))
    got = closest_on_triangles(points, corners)
    for i in range(40):
        expected = nearest_by_sampling(points[i], corners[i])
        assert np.linalg.norm(got[i] - points[i]) == pytest.approx(np.linalg.norm(expected - points[i]), abs=1e-6)


def test_closest_keeps_corners_and_edges():
    triangle = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])
    cases = {(-1, -1, 2): (0, 0, 0), (2, -0.5, 0): (1, 0, 0), (0.5, -1, 1): (0.5, 0, 0), (1, 1, 1): (0.5, 0.5, 0)}
    cases |= {(-3, 0.25, 0): (0, 0.25, 0), (0.2, 0.3, -4): (0.2, 0.3, 0), (-1, 3, 0): (0, 1, 0)}
    for point, expected in cases.items():
        np.testing.assert_allclose(closest_on_triangles(np.array(point, float), triangle), expected, atol=1e-12)


def test_surface_equals_brute_force_with_triangles_of_very_different_size():
    rng = np.random.default_rng(1)
    fine = trimesh.creation.icosphere(subdivisions=3)
    vertices = np.concatenate([fine.vertices, rng.normal(scale=4, size=(30, 3))])
    faces = np.concatenate([fine.faces, len(fine.vertices) + np.arange(30).reshape(10, 3)])
    points = rng.normal(scale=2, size=(300, 3))
    got = Surface(vertices, faces).closest(points)
    every = closest_on_triangles(points[:, None], vertices[faces][None])
    distances = np.linalg.norm(every - points[:, None], axis=-1)
    np.testing.assert_allclose(got.distance, distances.min(1), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(got.points - points, axis=-1), got.distance, atol=1e-12)
    on_triangle = closest_on_triangles(got.points, vertices[faces[got.triangle]])
    np.testing.assert_allclose(on_triangle, got.points, atol=1e-9)


def test_degenerate_triangles_are_left_out():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5.0]])
    got = Surface(vertices, np.array([[3, 3, 3], [0, 1, 2]])).closest(np.array([[5, 5, 5.0]]))
    assert got.triangle[0] == 1
    with pytest.raises(ValueError, match="area"):
        Surface(vertices, np.array([[3, 3, 3]]))


def test_one_directional_distance_is_not_symmetric_on_a_half_mesh():
    sphere = trimesh.creation.icosphere(subdivisions=2)
    half = sphere.faces[sphere.triangles_center[:, 2] > 0]
    used = np.unique(half)
    got = hausdorff(sphere.vertices[used], np.searchsorted(used, half), sphere.vertices, sphere.faces)
    assert got["a_to_b"] == pytest.approx(0, abs=1e-12)
    assert got["b_to_a"] > 0.1
    assert got["maximum"] > 0.9
