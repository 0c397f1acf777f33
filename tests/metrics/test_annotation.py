import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from neuface_ray.metrics import annotation as metrics


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_nme_of_a_shift_by_a_hundredth_of_the_eye_distance_is_one(rng):
    for scheme, count in (("ibug68", 68), ("mediapipe478", 478)):
        reference = rng.uniform(0, 500, size=(3, count, 2))
        d = metrics.eye_distance(reference, scheme)
        shifted = reference + d[:, None, None] / 100 * np.array([0.6, 0.8])
        np.testing.assert_allclose(metrics.nme(shifted, reference, d), 1)


def test_eye_corners_are_the_outer_ones():
    points = np.zeros((478, 2))
    points[[33, 133, 362, 263], 0] = [10, 20, 40, 50]
    assert metrics.eye_distance(points, "mediapipe478") == 40
    points = np.zeros((68, 2))
    points[[36, 39, 42, 45], 0] = [10, 20, 40, 50]
    assert metrics.eye_distance(points, "ibug68") == 40


def test_nme_naive_twin_with_invalid_points(rng):
    predicted, reference = rng.normal(size=(2, 4, 10, 2))
    valid = rng.uniform(size=(4, 10)) > 0.4
    valid[2] = False
    d = np.array([2.0, 0.0, 1.0, 3.0])
    got = metrics.nme(predicted, reference, d, valid)
    for i in range(4):
        errors = [np.hypot(*(predicted[i, k] - reference[i, k])) for k in range(10) if valid[i, k]]
        if d[i] > 0 and errors:
            assert got[i] == pytest.approx(100 * np.mean(errors) / d[i])
        else:
            assert np.isnan(got[i])


def test_box_size(rng):
    points = np.array([[0, 0], [4, 0], [4, 9], [100, 100.0]])
    assert metrics.box_size(points, np.array([True, True, True, False])) == 6


def test_msi_of_constant_velocity_hits_the_bound(rng):
    start, velocity = rng.normal(size=(2, 7, 3))
    points = start + 1e-3 * np.arange(20)[:, None, None] * velocity
    stability = metrics.msi3d(points)
    assert stability.msi == pytest.approx(1 / metrics.MSI_EPSILON)
    assert stability.acceleration_rms == pytest.approx(0, abs=1e-9)


def test_msi_of_white_noise(rng):
    s = 2.0
    points = rng.normal(scale=s / metrics.MM, size=(20000, 5, 3))
    stability = metrics.msi3d(points)
    assert stability.msi == pytest.approx(1 / (3 * 6 * s**2), rel=0.05)
    assert stability.msi_median == pytest.approx(1 / (18 * s**2), rel=0.05)
    assert stability.acceleration_rms == pytest.approx(np.sqrt(18) * s, rel=0.05)


def test_msi_naive_twin_with_gaps_and_rotation(rng):
    points = rng.normal(size=(15, 4, 3))
    valid = np.ones(15, bool)
    valid[[4, 9]] = False
    total = 0.0
    for k in range(4):
        acceleration = [
            1000 * (points[t + 1, k] - 2 * points[t, k] + points[t - 1, k]) for t in range(1, 14) if valid[t - 1 : t + 2].all()
        ]
        total += 1 / np.trace(np.cov(np.array(acceleration).T, bias=True))
    got = metrics.msi3d(points, valid)
    assert got.n == 2 + 2 + 3
    assert got.msi == pytest.approx(total / 4)
    turned = points @ Rotation.random(random_state=1).as_matrix().T
    assert metrics.msi3d(turned, valid).msi == pytest.approx(got.msi)


def test_msi_needs_five_frames(rng):
    assert np.isnan(metrics.msi3d(rng.normal(size=(4, 3, 3))).msi)
    assert np.isfinite(metrics.msi3d(rng.normal(size=(5, 3, 3))).msi)


def test_cvd_is_zero_for_equal_views_and_naive_twin(rng):
    equal = np.repeat(rng.normal(size=(3, 1, 6, 3)), 4, axis=1)
    assert metrics.cvd(equal).mean == 0
    canonical = rng.normal(size=(3, 4, 6, 3))
    valid = np.ones((3, 4), bool)
    valid[1, 2] = valid[2, :3] = False
    for norm in (1, 2):
        pairs = {}
        for f in range(3):
            for a in range(4):
                for b in range(a + 1, 4):
                    if valid[f, a] and valid[f, b]:
                        difference = canonical[f, a] - canonical[f, b]
                        each = np.abs(difference).sum(-1) if norm == 1 else np.sqrt((difference**2).sum(-1))
                        pairs[f, a, b] = 1000 * each.mean()
        got = metrics.cvd(canonical, valid, norm)
        assert got.mean == pytest.approx(np.mean(list(pairs.values())))
        for view in range(4):
            assert got.per_view[view] == pytest.approx(np.mean([v for k, v in pairs.items() if view in k[1:]]))
        assert np.isnan(got.per_frame[2])
    permuted = metrics.cvd(canonical[:, [2, 0, 3, 1]], valid[:, [2, 0, 3, 1]])
    assert permuted.mean == pytest.approx(metrics.cvd(canonical, valid).mean)


def test_cvd_of_one_view_is_nothing(rng):
    assert np.isnan(metrics.cvd(rng.normal(size=(3, 1, 6, 3))).mean)


def test_mpve_alignments(rng):
    truth = rng.normal(size=(2, 30, 3))
    turn = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    predicted = 1.1 * truth @ turn.T + [1, 2, 3]
    assert metrics.mpve(predicted, truth, "similarity") == pytest.approx([0, 0], abs=1e-9)
    assert (metrics.mpve(predicted, truth, "rigid") > 1).all()
    assert metrics.mpve(truth + np.array([1, 2, 3]), truth, "root") == pytest.approx([0, 0], abs=1e-9)
    assert metrics.mpve(truth + np.array([0, 0, 0.002]), truth, "none") == pytest.approx([2, 2])
    roots = (np.zeros((2, 3)), np.full((2, 3), 0.001))
    assert metrics.mpve(truth, truth, "root", roots=roots) == pytest.approx([np.sqrt(3)] * 2)
    mask = np.arange(30) < 10
    spoilt = truth.copy()
    spoilt[:, 10:] += 1
    assert metrics.mpve(spoilt, truth, "rigid", mask) == pytest.approx([0, 0], abs=1e-9)
    with pytest.raises(ValueError, match="procrustes"):
        metrics.mpve(truth, truth, "procrustes")
