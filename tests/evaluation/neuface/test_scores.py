"""Measurements on motions whose numbers are known."""

import numpy as np
import pytest

from neuface_ray.evaluation.neuface import scores


def test_amplitude_is_one_for_the_truth_half_for_half_and_nothing_for_a_frozen_face():
    true = np.stack([3 * np.sin(np.arange(20) / 2), np.cos(np.arange(20) / 3)], 1)
    valid = np.ones((20, 2), bool)
    assert scores.amplitude(true + 7, true, valid) == pytest.approx((1, 1))
    assert scores.amplitude(0.5 * true, true, valid) == pytest.approx((0.5, 0.5))
    assert scores.amplitude(np.full_like(true, 4.0), true, valid) == pytest.approx((0, 0))
    noise = np.random.default_rng(0).normal(size=(20, 2)) * 3
    kept, gain = scores.amplitude(0.5 * true + noise, true, valid)
    assert kept > 1 > gain


def test_amplitude_looks_at_valid_frames_and_at_faces_that_move():
    true = np.tile(3 * np.sin(np.arange(20) / 2)[:, None], (1, 2))
    valid = np.ones((20, 2), bool)
    valid[5], valid[:, 1] = False, False
    spoilt = true.copy()
    spoilt[~valid] = 100
    assert scores.amplitude(spoilt, true, valid) == pytest.approx((1, 1))
    assert np.isnan(scores.amplitude(true, 0.1 * true, valid)).all()
    assert np.isnan(scores.amplitude(true, true, ~np.ones_like(valid))).all()


def test_jitter_is_the_acceleration_in_pixels():
    time = np.arange(10.0)
    steady = np.broadcast_to((time * 5)[:, None, None, None], (10, 2, 3, 2))
    assert scores.jitter(steady, np.ones((10, 2), bool)) == 0
    shaking = steady + 0.5 * ((-1) ** time)[:, None, None, None] * [1.0, 0.0]
    assert scores.jitter(shaking, np.ones((10, 2), bool)) == pytest.approx(2.0)
    assert np.isnan(scores.jitter(steady, np.zeros((10, 2), bool)))
