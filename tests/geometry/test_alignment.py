import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from neuface_ray.geometry.alignment import rigid, similarity


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def moved(points, rng, scale):
    rotation = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    translation = rng.normal(size=3)
    return scale * points @ rotation.T + translation, rotation, translation


def test_recovers_known_similarity(rng):
    points = rng.normal(size=(20, 3))
    target, rotation, translation = moved(points, rng, 1.7)
    fit = similarity(points, target)
    np.testing.assert_allclose(fit.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(fit.translation, translation, atol=1e-12)
    assert fit.scale == pytest.approx(1.7)
    np.testing.assert_allclose(fit.apply(points), target, atol=1e-12)


def test_rigid_keeps_scale(rng):
    points = rng.normal(size=(20, 3))
    target, rotation, _ = moved(points, rng, 1.7)
    fit = rigid(points, target)
    assert fit.scale == 1
    np.testing.assert_allclose(fit.rotation, rotation, atol=1e-12)


def test_mirrored_points_get_a_proper_rotation(rng):
    points = rng.normal(size=(30, 3))
    for fit in (rigid(points, points * [-1, 1, 1]), similarity(points, points * [-1, 1, 1])):
        assert np.linalg.det(fit.rotation) == pytest.approx(1)


def test_flat_points(rng):
    points = rng.normal(size=(10, 3)) * [1, 1, 0]
    target, rotation, _ = moved(points, rng, 1.0)
    fit = rigid(points, target)
    np.testing.assert_allclose(fit.rotation, rotation, atol=1e-9)


def test_weights_leave_points_out(rng):
    points = rng.normal(size=(20, 3))
    target, rotation, _ = moved(points, rng, 0.6)
    target[:5] += 10
    weights = np.r_[np.zeros(5), np.ones(15)]
    np.testing.assert_allclose(similarity(points, target, weights).rotation, rotation, atol=1e-12)


def test_no_other_alignment_is_nearer(rng):
    points, target = rng.normal(size=(2, 12, 3))
    weights = rng.uniform(size=12)
    fit = similarity(points, target, weights)

    def cost(rotation, translation, scale):
        return (weights[:, None] * (scale * points @ rotation.T + translation - target) ** 2).sum()

    best = cost(*fit)
    for _ in range(50):
        turn = Rotation.from_rotvec(rng.normal(scale=0.05, size=3)).as_matrix()
        shift, growth = rng.normal(scale=0.05, size=3), np.exp(rng.normal(scale=0.05))
        assert cost(turn @ fit.rotation, fit.translation + shift, fit.scale * growth) > best


def test_batch_equals_loop_and_torch_equals_numpy(rng):
    points, target = rng.normal(size=(2, 4, 3, 9, 3)).astype(np.float32)
    batched = similarity(points, target)
    tensors = similarity(torch.from_numpy(points), torch.from_numpy(target))
    assert tensors.rotation.dtype == torch.float32
    for i in np.ndindex(4, 3):
        single = similarity(points[i], target[i])
        np.testing.assert_allclose(batched.rotation[i], single.rotation, atol=1e-5)
        np.testing.assert_allclose(tensors.apply(torch.from_numpy(points))[i].numpy(), single.apply(points[i]), atol=1e-5)


def test_empty_batch_and_zero_weights(rng):
    empty = np.zeros((0, 5, 3))
    assert similarity(empty, empty).rotation.shape == (0, 3, 3)
    with pytest.raises(ValueError, match="sum to zero"):
        rigid(np.ones((5, 3)), np.ones((5, 3)), np.zeros(5))
