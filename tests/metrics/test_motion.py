import numpy as np
import pytest

from neuface_ray.metrics.motion import average_pairwise_distance, frechet_distance


def test_frechet_distance_of_shifted_gaussians_is_the_squared_shift():
    features = np.random.default_rng(0).normal(size=(500, 4))
    shift = np.array([1.0, -2.0, 0.5, 0.0])
    assert frechet_distance(features, features + shift) == pytest.approx((shift**2).sum(), rel=1e-6)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_scaled_gaussians():
    features = np.random.default_rng(0).normal(size=(2000, 1))
    expected = (2 * features.std(ddof=1) - features.std(ddof=1)) ** 2 + features.mean() ** 2
    assert frechet_distance(2 * features, features, ridge=0) == pytest.approx(expected, rel=1e-6)


def test_average_pairwise_distance():
    run = np.random.default_rng(1).normal(size=(1, 6, 5, 3))
    assert average_pairwise_distance(np.repeat(run, 4, axis=0)) == 0
    three = np.concatenate([run, run + np.array([3, 0, 0]), run + np.array([0, 4, 0])])
    assert average_pairwise_distance(three) == pytest.approx((3 + 4 + 5) / 3)
