import numpy as np
import pytest
import trimesh
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from neuface_ray.geometry.alignment import Alignment
from neuface_ray.geometry.closest_points import Surface, closest_on_triangles
from neuface_ray.metrics.scan_to_mesh import now_crop, refine, region_near, scan_to_mesh


@pytest.fixture(scope="module")
def blob():
    """A lumpy closed surface of 642 vertices and about 100 mm, which no rotation maps onto itself, with seven landmarks."""
    sphere = trimesh.creation.icosphere(subdivisions=3)
    p = np.array(sphere.vertices)
    radius = 60 * (1 + 0.3 * p[:, 0] ** 3 + 0.2 * p[:, 1] * p[:, 2] + 0.1 * np.sin(3 * p[:, 1]))
    vertices = p * radius[:, None] * [1, 1.3, 0.9]
    return vertices, np.array(sphere.faces), vertices[[3, 60, 130, 260, 300, 420, 600]]


def on_surface(vertices, faces, count, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3), size=count)
    return (weights[..., None] * vertices[faces[rng.integers(len(faces), size=count)]]).sum(1)


def test_a_scan_of_the_mesh_itself_has_no_error(blob):
    vertices, faces, landmarks = blob
    turn = Rotation.from_rotvec([0.4, -0.3, 0.2]).as_matrix()
    noisy = landmarks @ turn.T + [10, 20, 30] + np.random.default_rng(1).normal(scale=2, size=(7, 3))
    scan = on_surface(vertices, faces, 800) @ turn.T + [10, 20, 30]
    for metric in (False, True):
        got = scan_to_mesh(scan, vertices, faces, noisy, landmarks, metric)
        assert got.distances.mean() < 0.01
        np.testing.assert_allclose(got.rotation, turn, atol=1e-3)


def test_scale_changes_the_metric_score_only(blob):
    vertices, faces, landmarks = blob
    scan = on_surface(vertices, faces, 800)
    free = scan_to_mesh(scan, 1.1 * vertices, faces, landmarks, 1.1 * landmarks)
    fixed = scan_to_mesh(scan, 1.1 * vertices, faces, landmarks, 1.1 * landmarks, metric=True)
    assert free.distances.mean() < 0.01
    assert free.scale == pytest.approx(1 / 1.1, rel=1e-4)
    assert fixed.scale == 1
    assert fixed.distances.mean() > 1


@pytest.mark.parametrize("metric", [False, True])
def test_refinement_reaches_the_brute_force_optimum(blob, metric):
    vertices, faces, _ = blob
    scan = on_surface(vertices * [1.05, 0.95, 1.02], faces, 50)
    got = refine(scan, Surface(vertices, faces), Alignment(np.eye(3), np.zeros(3), np.ones(())), metric)

    def distances(x):
        turn, scale = Rotation.from_rotvec(x[:3]).as_matrix(), 1.0 if metric else x[6]
        inside = (scan - x[3:6]) @ turn / scale
        every = closest_on_triangles(inside[:, None], vertices[faces][None])
        return scale * np.linalg.norm(every - inside[:, None], axis=-1).min(1)

    free = least_squares(
        distances, np.r_[np.zeros(6), np.ones(0 if metric else 1)], x_scale=np.r_[[0.01] * 3, [1] * 3, [0.01] * (not metric)]
    )
    assert (got.distances**2).sum() <= 1.001 * (free.fun**2).sum()
    x = np.r_[Rotation.from_matrix(got.rotation).as_rotvec(), got.translation, got.scale]
    np.testing.assert_allclose(distances(x), got.distances, atol=1e-9)


def test_crop_follows_the_protocol():
    landmarks = np.array([[-45, 35, 0], [-15, 35, 0], [15, 35, 0], [45, 35, 0], [0, -10, 20], [-25, -40, 5], [25, -40, 5.0]])
    centre = np.array([0, -10 + 0.3 * 45, 20 - 0.3 * 20])
    radius = 0.7 * (90 + np.hypot(45, 20))
    axis = np.array([0.6, 0, 0.8])
    scan = centre + np.array([0, 0.99 * radius, 1.01 * radius])[:, None] * axis
    assert now_crop(scan, landmarks).tolist() == [True, True, False]
    assert region_near(scan, centre, 0.5).tolist() == [True, False, False]
