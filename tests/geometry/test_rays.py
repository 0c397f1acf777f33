import numpy as np
import pytest
import trimesh

from neuface_ray.geometry.rays import RayCaster


def intersect(origin, direction, corners):
    """Distance and barycentric coordinates of a ray and a triangle by solving three equations, or None."""
    a, b, c = corners
    try:
        t, v, w = np.linalg.solve(np.stack([-direction, b - a, c - a], -1), origin - a)
    except np.linalg.LinAlgError:
        return None
    return (t, 1 - v - w, v, w) if t > 0 and min(v, w, 1 - v - w) >= 0 else None


@pytest.mark.parametrize("unit", [0.001, 1.0, 1000.0])
def test_hits_naive_twin(unit):
    rng = np.random.default_rng(0)
    mesh = trimesh.creation.icosphere(subdivisions=1, radius=unit)
    vertices, faces = (
        np.array(mesh.vertices) + rng.normal(scale=0.05 * unit, size=mesh.vertices.shape) + 3 * unit,
        np.array(mesh.faces),
    )
    origins = 3 * unit + rng.normal(size=(200, 3)) * 2 * unit
    directions = 3 * unit + rng.normal(scale=0.6 * unit, size=(200, 3)) - origins
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    caster = RayCaster(vertices, faces)
    hits = caster.cast(origins, directions)
    blocked = caster.blocked(origins, directions)
    n_hit = 0
    for i in range(200):
        found = {k: intersect(origins[i], directions[i], vertices[face]) for k, face in enumerate(faces)}
        found = {k: value for k, value in found.items() if value is not None}
        assert blocked[i] == bool(found)
        if not found:
            assert hits.triangle[i] == -1
            assert np.isinf(hits.distance[i])
            continue
        first = min(found, key=lambda k: found[k][0])
        n_hit += 1
        assert hits.distance[i] == pytest.approx(found[first][0], rel=1e-4)
        point = hits.barycentric[i] @ vertices[faces[hits.triangle[i]]]
        np.testing.assert_allclose(point, origins[i] + found[first][0] * directions[i], atol=1e-4 * unit)
    assert 50 < n_hit < 200


def test_one_direction_for_all():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    hits = RayCaster(mesh.vertices, mesh.faces).cast(np.array([[0.01, 0.02, 5], [3, 0, 5]]), np.array([0, 0, -1.0]))
    assert (hits.triangle >= 0).tolist() == [True, False]
    assert hits.distance[0] == pytest.approx(4, abs=0.05)
