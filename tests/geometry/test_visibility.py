import math

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from neuface_ray.geometry import visibility as V
from neuface_ray.geometry.mesh import vertex_normals
from neuface_ray.geometry.rays import PinholeCamera, RayCaster, WeakCamera, crop_to_pixels


@pytest.fixture(scope="module")
def views():
    """Five views (two batches) of a sphere of 9 cm that carries bumps, and its faces."""
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=0.09)
    points = np.array(sphere.vertices) * (1 + 0.2 * np.sin(40 * sphere.vertices[:, :1]))
    turns = Rotation.random(10, random_state=0).as_matrix().reshape(2, 5, 3, 3)
    return torch.from_numpy(points @ turns.swapaxes(-1, -2)), torch.from_numpy(np.array(sphere.faces))


def test_confidence_and_weights_naive_twin(views):
    vertices, faces = views
    confidence = V.view_confidence(vertices, faces)
    weights = V.view_weights(confidence)
    fused = V.fuse_views(vertices, weights)
    normals = vertex_normals(vertices, faces)
    for b, n in np.ndindex(2, vertices.shape[2]):
        scores = []
        for v in range(5):
            c = float(normals[b, v, n] @ torch.tensor([0.0, 0, 1], dtype=torch.float64))
            if c < 0.28 or vertices[b, v, n, 2] < -0.08:
                c = 0.0
            assert confidence[b, v, n] == pytest.approx(c, abs=1e-12)
            scores.append(math.exp((-100.0 if c == 0 else c) / 0.1) if any(confidence[b, :, n] > 0) else 1.0)
        for v in range(5):
            assert weights[b, v, n] == pytest.approx(scores[v] / sum(scores), abs=1e-9)
        mean = sum(scores[v] / sum(scores) * vertices[b, v, n] for v in range(5))
        torch.testing.assert_close(fused[b, n], mean)


def test_a_vertex_that_no_view_sees_gets_the_plain_mean():
    weights = V.view_weights(torch.tensor([[0.9, 0.0], [0.5, 0.0]]))
    assert weights[:, 1].tolist() == [0.5, 0.5]
    assert weights[0, 0] > weights[1, 0]


def test_one_view_has_weight_one_and_order_does_not_matter(views):
    vertices, faces = views
    confidence = V.view_confidence(vertices, faces)
    assert (V.view_weights(confidence[:, :1]) == 1).all()
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = V.fuse_views(vertices[:, order], V.view_weights(confidence[:, order]))
    torch.testing.assert_close(permuted, V.fuse_views(vertices, V.view_weights(confidence)))


def test_invalid_views_have_no_weight(views):
    vertices, faces = views
    confidence = V.view_confidence(vertices, faces)
    valid = torch.tensor([[True, False, True, True, False], [False] * 5])
    weights = V.view_weights(confidence, valid)
    torch.testing.assert_close(weights[0, [0, 2, 3]], V.view_weights(confidence[0, [0, 2, 3]]))
    assert (weights[0, [1, 4]] == 0).all()
    assert (weights[1] == 0).all()


def test_invalid_views_spread_no_nan_gradient(views):
    vertices, faces = views
    moving = vertices.clone().requires_grad_()
    weights = V.view_weights(V.view_confidence(moving, faces), torch.tensor([[True, False, True, True, False], [False] * 5]))
    (weights * torch.rand_like(weights)).sum().backward()
    assert torch.isfinite(moving.grad).all()
    assert moving.grad[0].abs().sum() > 0


def test_perspective_direction_changes_the_confidence(views):
    vertices, faces = views
    camera = PinholeCamera(np.array([0, 0, -0.3]), np.eye(3))
    towards = torch.from_numpy(np.array(camera.towards_viewer(vertices.numpy())))
    near, far = V.view_confidence(vertices, faces, towards_viewer=towards), V.view_confidence(vertices, faces)
    normals = vertex_normals(vertices, faces)
    seen = near > 0
    torch.testing.assert_close(near[seen], (normals * towards).sum(-1)[seen])
    assert not torch.allclose(near, far)


def visible_vertices(vertices: np.ndarray, faces: np.ndarray, camera) -> np.ndarray:
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    return V.visible_points(vertices, normals, RayCaster(vertices, faces), camera)


def test_exact_visibility_of_a_sphere_is_its_near_cap():
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    vertices, faces = np.array(sphere.vertices), np.array(sphere.faces)
    weak = WeakCamera(np.array([5.0, 0, 0]), crop_to_pixels(64, 64))
    clear = np.abs(vertices[:, 2]) > 0.01
    assert (visible_vertices(vertices, faces, weak) == (vertices[:, 2] > 0))[clear].all()
    distance = 0.25
    pinhole = PinholeCamera(np.array([0, 0, -distance]), np.eye(3))
    horizon = 0.1**2 / distance
    clear = np.abs(vertices[:, 2] - horizon) > 0.01
    assert (visible_vertices(vertices, faces, pinhole) == (vertices[:, 2] > horizon))[clear].all()


def test_exact_visibility_sees_occlusion():
    back = trimesh.creation.icosphere(subdivisions=2, radius=0.05)
    front = trimesh.creation.box(extents=[0.04, 0.2, 0.01])
    front.apply_translation([0, 0, 0.1])
    both = trimesh.util.concatenate([back, front])
    vertices, n = np.array(both.vertices), len(back.vertices)
    visible = visible_vertices(vertices, np.array(both.faces), WeakCamera(np.array([5.0, 0, 0]), np.eye(3)))[:n]
    facing = vertices[:n, 2] > 0.005
    behind = np.abs(vertices[:n, 0]) < 0.02
    assert not visible[facing & behind].any()
    assert visible[facing & (np.abs(vertices[:n, 0]) > 0.021)].all()
    assert (facing & behind).any()


def test_no_points():
    sphere = trimesh.creation.icosphere(subdivisions=1)
    caster = V.RayCaster(sphere.vertices, sphere.faces)
    assert V.visible_points(np.zeros((0, 3)), np.zeros((0, 3)), caster, WeakCamera(np.ones(3), np.eye(3))).shape == (0,)
