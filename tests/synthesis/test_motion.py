import numpy as np
import pytest
import torch

from neuface_ray.geometry.rotations import rotvec_to_matrix, yaw_pitch_roll_deg
from neuface_ray.synthesis.motion import EMOTIONS, VISEMES, MotionRange, angles_to_rotvec, sample_motion, smooth_noise
from neuface_ray.types import ARKIT_NAMES


def _index(name):
    return ARKIT_NAMES.index(name)


def test_every_named_action_exists():
    for weights in (*EMOTIONS.values(), *VISEMES.values()):
        assert set(weights) <= set(ARKIT_NAMES)
        assert all(0 < weight <= 1 for weight in weights.values())


def test_angles_are_the_projects_yaw_pitch_roll():
    angles = np.random.default_rng(0).uniform(-80, 80, (50, 3))
    back = yaw_pitch_roll_deg(rotvec_to_matrix(torch.from_numpy(angles_to_rotvec(angles))))
    np.testing.assert_allclose(back.numpy(), angles, atol=1e-6)
    np.testing.assert_allclose(angles_to_rotvec(np.zeros((1, 3))), 0)


def test_the_same_seed_gives_the_same_motion_and_another_a_different_one():
    times = np.arange(30) / 25
    first, again, other = (sample_motion(np.random.default_rng(s), MotionRange(), 2.0).expression(times) for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("seed", range(6))
def test_motion_is_bounded_and_smooth(seed):
    limits = MotionRange(yaw_deg=40)
    motion = sample_motion(np.random.default_rng(seed), limits, 4.0)
    times = np.arange(0, 4, 1 / 100)
    expression, angles = motion.expression(times), motion.angles_deg(times)
    assert expression.min() >= 0
    assert expression.max() <= 1
    assert np.abs(angles[:, 0]).max() <= 44
    assert np.abs(np.diff(angles, axis=0)).max() < 2.5  # degrees in 10 ms
    steps = np.abs(np.diff(expression, axis=0)).max(0)
    lids_and_gaze = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith("eye")]
    assert np.delete(steps, lids_and_gaze).max() < 0.15
    assert (expression[:, _index("mouthClose")] <= expression[:, _index("jawOpen")] + 1e-9).all()


def test_people_blink_and_look_around():
    blinks, gazes = 0, []
    for seed in range(12):
        motion = sample_motion(np.random.default_rng(seed), MotionRange(random_expressions=0), 10.0)
        expression = motion.expression(np.arange(0, 10, 0.02))
        lids = expression[:, _index("eyeBlinkLeft")]
        blinks += int(((lids[1:] > 0.7) & (lids[:-1] <= 0.7)).sum())
        gazes.append(expression[:, _index("eyeLookOutLeft")] - expression[:, _index("eyeLookInLeft")])
        left, right = expression[:, _index("eyeLookOutLeft")], expression[:, _index("eyeLookInRight")]
        assert (np.abs(left - right)[(left < 1) & (right < 1)] < 1e-6).all()
    assert 12 * 10 / 8 < blinks < 12 * 10 / 1
    assert np.std(np.concatenate(gazes)) > 0.1


def test_smooth_noise_has_unit_variance():
    values = np.concatenate([smooth_noise(np.random.default_rng(s), 4, 1.0)(np.arange(0, 60, 0.1)) for s in range(8)])
    assert values.std() == pytest.approx(1, abs=0.1)
