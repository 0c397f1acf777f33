import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from neuface_ray.geometry import cameras as C
from neuface_ray.geometry.rays import PinholeCamera, WeakCamera, crop_to_pixels


@pytest.fixture
def points():
    return torch.from_numpy(np.random.default_rng(0).normal(scale=0.08, size=(2, 3, 11, 3)))


K = torch.tensor([[900.0, 0, 310], [0, 880, 250], [0, 0, 1]], dtype=torch.float64)


def test_weak_projection_naive_twin(points):
    camera = torch.rand(2, 3, 3, dtype=torch.float64) + 1
    got = C.project_weak(points, camera)
    for index in np.ndindex(2, 3, 11):
        s, tx, ty = camera[index[:2]]
        x, y, _ = points[index]
        torch.testing.assert_close(got[index], torch.stack([s * (x + tx), -s * (y + ty)]))


def test_pinhole_projection_naive_twin(points):
    translation = torch.tensor([0.05, -0.02, -0.7], dtype=torch.float64)
    got = C.project_pinhole(points, translation.expand(2, 3, 3), K.expand(2, 3, 3, 3))
    for index in np.ndindex(2, 3, 11):
        x, y, z = points[index] + translation
        u, v, w = K.numpy() @ np.array([x, -y, -z])
        np.testing.assert_allclose(got[index], [u / w, v / w])


def test_the_subjects_left_is_image_right_and_up_is_up():
    left_and_up = torch.tensor([[0.05, 0.05, 0.0]], dtype=torch.float64)
    u, v = C.project_weak(left_and_up, torch.tensor([5.0, 0, 0], dtype=torch.float64))[0]
    assert u > 0 > v
    u, v = C.project_pinhole(left_and_up, torch.tensor([0, 0, -1.0], dtype=torch.float64), K)[0]
    assert u > 310
    assert v < 250


def test_gradients(points):
    few = points[0, 0, :3].clone().requires_grad_()
    camera = torch.tensor([4.0, 0.01, -0.02], dtype=torch.float64, requires_grad=True)
    translation = torch.tensor([0.05, -0.02, -0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(C.project_weak, (few, camera))
    assert torch.autograd.gradcheck(lambda p, t: C.project_pinhole(p, t, K), (few, translation))


def test_world_to_view_agrees_with_opencv_chain(points):
    extrinsic = torch.eye(4, dtype=torch.float64)
    extrinsic[:3, :3] = torch.from_numpy(Rotation.from_rotvec([0.3, -2.0, 0.4]).as_matrix())
    extrinsic[:3, 3] = torch.tensor([0.1, -0.2, 1.5])
    view = C.world_to_view(points, extrinsic)
    opencv = points @ extrinsic[:3, :3].T + extrinsic[:3, 3]
    torch.testing.assert_close(view, opencv * torch.tensor([1.0, -1, -1], dtype=torch.float64))
    rotation = C.view_rotation(extrinsic)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones((), dtype=torch.float64))
    direct = points @ rotation.T + extrinsic[:3, 3] * torch.tensor([1.0, -1, -1], dtype=torch.float64)
    torch.testing.assert_close(view, direct)
    pixels = opencv @ K.T
    torch.testing.assert_close(
        C.project_pinhole(view, torch.zeros(3, dtype=torch.float64), K), pixels[..., :2] / pixels[..., 2:]
    )


def test_transform_points_and_its_inverse(points):
    matrix = torch.tensor([[120.0, 3, 300], [-3, 120, 200], [0, 0, 1]], dtype=torch.float64)
    flat = points[..., :2]
    moved = C.transform_points(flat, matrix)
    torch.testing.assert_close(moved[..., 0], 120 * flat[..., 0] + 3 * flat[..., 1] + 300)
    torch.testing.assert_close(C.transform_points(moved, torch.linalg.inv(matrix)), flat)


def test_nearest_weak_camera_is_the_weighted_least_squares_solution(points):
    random = torch.Generator().manual_seed(0)
    camera = torch.tensor([7.5, 0.02, -0.01], dtype=torch.float64)
    torch.testing.assert_close(C.nearest_weak_camera(points, C.project_weak(points, camera)), camera.expand(2, 3, 3))
    observed = C.project_weak(points, camera) + 0.05 * torch.randn(2, 3, 11, 2, generator=random, dtype=torch.float64)
    weight = torch.rand(2, 3, 11, generator=random, dtype=torch.float64)
    found = C.nearest_weak_camera(points, observed, weight)
    for index in np.ndindex(2, 3):
        # u = scale x + a, -v = scale y + b
        x, u, w = points[index][:, :2].numpy(), observed[index].numpy() * [1, -1], weight[index].sqrt().numpy()
        rows = [np.stack([x[:, k], np.full(11, k == 0), np.full(11, k == 1)], 1) * w[:, None] for k in (0, 1)]
        scale, a, b = np.linalg.lstsq(np.concatenate(rows), np.concatenate([u[:, k] * w for k in (0, 1)]), rcond=None)[0]
        np.testing.assert_allclose(found[index], [scale, a / scale, b / scale])
    assert C.nearest_weak_camera(points, observed, torch.zeros_like(weight))[..., 0].eq(0).all()


def test_weak_from_pinhole_agrees_at_the_origin_and_to_first_order():
    translation = torch.tensor([[0.1, -0.05, -0.8]], dtype=torch.float64)
    image_to_crop = torch.linalg.inv(torch.tensor([[100.0, 0, 400], [0, 100, 300], [0, 0, 1]], dtype=torch.float64))
    square = torch.tensor([[900.0, 0, 310], [0, 900, 250], [0, 0, 1]], dtype=torch.float64)
    weak = C.weak_from_pinhole(translation, square, image_to_crop)
    near = torch.tensor([[[0.0, 0, 0], [1e-4, 0, 0], [0, 1e-4, 0]]], dtype=torch.float64)
    exact = C.transform_points(C.project_pinhole(near, translation, square), image_to_crop)
    torch.testing.assert_close(C.project_weak(near, weak), exact, atol=1e-9, rtol=0)


def test_ray_cameras_agree_with_the_tensor_functions(points):
    flat = points[0, 0]
    weak = torch.tensor([5.0, 0.01, -0.02], dtype=torch.float64)
    crop_to_image = torch.from_numpy(crop_to_pixels(640, 480) @ np.array([[0.5, 0, 0.1], [0, 0.5, 0.2], [0, 0, 1]]))
    expected = C.transform_points(C.project_weak(flat, weak), crop_to_image)
    camera = WeakCamera(weak.numpy(), crop_to_image.numpy())
    np.testing.assert_allclose(camera.project(flat.numpy()), expected.numpy())
    translation = torch.tensor([0.05, -0.02, -0.7], dtype=torch.float64)
    pinhole = PinholeCamera(translation.numpy(), K.numpy())
    np.testing.assert_allclose(pinhole.project(flat.numpy()), C.project_pinhole(flat, translation, K).numpy())


@pytest.mark.parametrize("kind", ["weak", "pinhole"])
def test_rays_pass_through_the_points_that_project_to_their_pixels(points, kind):
    flat = points[0, 0].numpy()
    if kind == "weak":
        camera = WeakCamera(np.array([5.0, 0.01, -0.02]), crop_to_pixels(640, 480))
    else:
        camera = PinholeCamera(np.array([0.05, -0.02, -0.7]), K.numpy())
    moved = np.array([[0.5, 0, 12], [0, 0.5, -7], [0, 0, 1]])
    for eye in (camera, camera.moved(moved)):
        origins, directions = eye.rays(eye.project(flat), flat)
        directions = np.broadcast_to(directions, origins.shape)
        gap = np.cross(flat - origins, directions)
        np.testing.assert_allclose(gap, 0, atol=1e-12)
        assert ((flat - origins) * directions).sum(-1).min() > 0
        np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1)
    np.testing.assert_allclose(camera.moved(moved).project(flat), camera.project(flat) * 0.5 + [12, -7])
