"""What an answer is measured by, on motions whose numbers are known."""

import numpy as np
import pytest

from neuface_ray.evaluation.neuface import scores
from neuface_ray.evaluation.neuface.variants import low_pass
from neuface_ray.evaluation.synthetic_clips import from_image, in_image
from neuface_ray.heads import load_head
from neuface_ray.metrics.annotation import accelerations
from neuface_ray.types import MeshSequence
from tests.fitting.made import make_clip


def sequence_of(truth, camera, valid):
    frames, views = valid.shape
    numbers = {
        "shape": truth.shape.expand(frames, views, -1).numpy(),
        "expression": truth.expression.expand(frames, views, -1).numpy(),
        "pose": truth.pose.numpy(),
        "camera": camera,
    }
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in numbers.items()}
    return MeshSequence("clip", "test", "head", **arrays, valid=valid.copy())


@pytest.fixture(scope="module")
def filmed():
    head = load_head()
    clip, truth = make_clip(head, frames=9, azimuths=(0.0, 0.4), calibrated=False)
    camera = np.tile(np.float32([8.0, 0.01, -0.02]), (9, 2, 1))
    return clip, sequence_of(truth, camera, clip.valid)


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


def test_cameras_in_the_image_and_back():
    rng = np.random.default_rng(0)
    camera = rng.uniform(0.5, 3, (4, 2, 3))
    crops = np.zeros((4, 2, 3, 3))
    crops[..., 0, 0] = crops[..., 1, 1] = rng.uniform(50, 90, (4, 2))
    crops[..., :2, 2], crops[..., 2, 2] = rng.uniform(100, 300, (4, 2, 2)), 1
    image = in_image(camera, crops)
    assert np.allclose(from_image(image, crops), camera)
    point = np.array([0.02, -0.03])
    crop = camera[0, 0, 0] * (point + camera[0, 0, 1:]) * [1, -1]
    pixel = crops[0, 0, :2, :2] @ crop + crops[0, 0, :2, 2]
    assert np.allclose(image[0, 0, 1:] + image[0, 0, 0] * point * [1, -1], pixel)


def test_low_pass_leaves_the_still_alone_and_calms_the_shaking(filmed):
    clip, sequence = filmed
    shaking = sequence.pose.copy()
    shaking[..., 0] += 0.05 * (-1.0) ** np.arange(9)[:, None]
    still = np.broadcast_to(sequence.pose[:1], sequence.pose.shape).copy()
    held = low_pass(
        MeshSequence(**{**vars(sequence), "pose": still, "expression": sequence.expression[:1].repeat(9, 0)}), clip, 2.0
    )
    assert np.allclose(held.pose, still, atol=1e-5)
    assert np.array_equal(held.shape, sequence.shape)
    calm = low_pass(MeshSequence(**{**vars(sequence), "pose": shaking}), clip, 1.5)
    before, after = (np.abs(accelerations(pose[:, 0, :3])).mean() for pose in (shaking, calm.pose))
    assert after < 0.1 * before
    assert np.abs(np.diff(calm.expression, axis=0)).mean() <= np.abs(np.diff(sequence.expression, axis=0)).mean()


def test_low_pass_filters_the_camera_in_the_image_and_skips_frames_without_a_crop(filmed):
    clip, sequence = filmed
    crops = clip.crop_to_image.copy()
    crops[:, :, 0, 2] += np.where(np.arange(9) % 2, 6.0, -6.0)[:, None]
    jumping = type(clip)(**{**vars(clip), "crop_to_image": crops, "valid": clip.valid.copy()})
    camera = from_image(in_image(sequence.camera[:1].repeat(9, 0), clip.crop_to_image[:1].repeat(9, 0)), crops)
    jumping.valid[4], jumping.crop_to_image[4] = False, np.eye(3)
    steady = MeshSequence(**{**vars(sequence), "camera": camera.astype(np.float32)})
    smooth = low_pass(steady, jumping, 1.0)
    kept = jumping.valid[:, 0]
    assert np.allclose(in_image(smooth.camera, crops)[kept], in_image(camera, crops)[kept], atol=1e-2)
