"""One identity out of many: how far images differ in direction, and how much their mean is drawn away from the mean head."""

import itertools
import math

import pytest
import torch

from neuface_ray.fitting.identity import distinct_directions, share_identity, shrinkage_correction
from neuface_ray.heads.parameters import HeadParameters


def poses(yaws, pitches=0.0, rolls=0.0):
    """Poses (F, 1, 15) with root rotations about one axis each, degrees."""
    root = torch.zeros(len(yaws), 1, 15)
    for axis, angles in ((0, pitches), (1, yaws), (2, rolls)):
        root[:, 0, axis] = torch.deg2rad(torch.as_tensor(angles, dtype=torch.float32).expand(len(yaws)))
    return root


def seen(pose):
    return torch.ones(pose.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize(("yaws", "count"), [([0.0], 1), ([5.0] * 9, 1), ([-40.0, 0, 40], 3), ([-40.0, 40], 2), ([0.0, 29], 1)])
def test_directions_thirty_degrees_apart_are_counted(yaws, count):
    assert distinct_directions(poses(yaws), seen(poses(yaws))) == count


@pytest.mark.parametrize("yaws", [[0.0, -25, 25], [-25.0, 25, 0], [10.0, 60, -50, 0, 31]])
def test_the_order_of_images_does_not_change_the_count(yaws):
    counts = {distinct_directions(poses(list(order)), seen(poses(yaws))) for order in itertools.permutations(yaws)}
    assert counts == {distinct_directions(poses(sorted(yaws)), seen(poses(yaws)))}


def test_a_turning_head_counts_by_its_range_and_not_by_its_frames():
    slow, fast = (poses(torch.linspace(-40, 40, frames).tolist()) for frames in (400, 9))
    assert distinct_directions(slow, seen(slow)) == distinct_directions(fast, seen(fast)) == 3


def test_a_head_that_tilts_sideways_shows_nothing_new():
    tilted = poses([0.0] * 3, rolls=[-50.0, 0, 50])
    nodding = poses([0.0] * 3, pitches=[-50.0, 0, 50])
    assert distinct_directions(tilted, seen(tilted)) == 1
    assert distinct_directions(nodding, seen(nodding)) == 3


def test_images_without_a_face_do_not_count():
    turned, valid = poses([0.0, 90, 45]), torch.tensor([[True], [False], [True]])
    assert distinct_directions(turned, valid) == 2
    assert distinct_directions(turned, torch.zeros_like(valid)) == 0


def test_one_image_or_a_sure_encoder_changes_nothing():
    assert [shrinkage_correction(n, math.inf) for n in (0, 1, 7)] == [1, 1, 1]
    assert [shrinkage_correction(n, 1.6) for n in (0, 1)] == [1, 1]


@pytest.mark.parametrize("snr", [0.5, 2.0])
@pytest.mark.parametrize("images", [2, 5])
def test_the_factor_is_the_slope_of_the_truth_on_the_mean_of_shrunk_answers(snr, images):
    rng = torch.Generator().manual_seed(0)
    truth = torch.randn(200_000, generator=rng)
    measured = truth[:, None] + torch.randn(200_000, images, generator=rng) / math.sqrt(snr)
    mean = (snr / (1 + snr) * measured).mean(1)
    assert shrinkage_correction(images, snr) == pytest.approx(float((mean * truth).mean() / mean.square().mean()), rel=0.02)


def test_the_factor_applies_to_the_mean_alone():
    parameters = HeadParameters(torch.tensor([[[1.0]], [[3.0]], [[99.0]]]), *(torch.zeros(3, 1, size) for size in (2, 15, 3)))
    valid = torch.tensor([[True], [True], [False]])
    assert share_identity(parameters, valid, factor=1.5).identity.tolist() == [[[3.0]]]
    assert share_identity(parameters, valid, "official_code", factor=1.5).identity.tolist() == [[[1.0]]]
    assert share_identity(parameters, valid, identity=torch.tensor([[[7.0]]]), factor=1.5).identity.tolist() == [[[7.0]]]
