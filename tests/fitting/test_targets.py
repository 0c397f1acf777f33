"""The smoothed orientations of the E-step, in the paper's and the released form."""

import math

import numpy as np
import pytest
import torch

from neuface_ray.fitting.targets import low_passed, smoothed_quaternions, window_weights
from neuface_ray.geometry.rotations import rotvec_to_quaternion


def walk(frames: int, views: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = 0.05 * torch.randn(frames, views, 3, generator=generator, dtype=torch.float64)
    return rotvec_to_quaternion(steps.cumsum(0))


def naive_average(q: torch.Tensor, t: int, v: int, before: int, after: int) -> torch.Tensor:
    window = [q[s, v] for s in range(max(0, t - before), min(len(q), t + after + 1))]
    mean = torch.stack(window).mean(0)
    return mean / mean.norm()


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_constant_orientation_is_its_own_target(mode):
    q = walk(1).expand(7, 2, 4)
    assert torch.allclose(smoothed_quaternions(q, torch.ones(7, 2, dtype=torch.bool), mode), q)


def test_paper_window_is_centred_and_truncated_at_the_ends():
    q = walk(9)
    target = smoothed_quaternions(q, torch.ones(9, 2, dtype=torch.bool), "paper")
    for t in range(9):
        for v in range(2):
            assert torch.allclose(target[t, v], naive_average(q, t, v, 2, 2))


def test_released_window_is_four_frames_and_leaves_the_edges():
    q = walk(9)
    target = smoothed_quaternions(q, torch.ones(9, 2, dtype=torch.bool), "released")
    for t in range(9):
        for v in range(2):
            expected = naive_average(q, t, v, 2, 1) if 2 <= t < 7 else q[t, v]
            assert torch.allclose(target[t, v], expected)


def test_only_the_released_form_lets_gradients_through():
    valid = torch.ones(6, 2, dtype=torch.bool)
    assert not smoothed_quaternions(walk(6).requires_grad_(), valid, "paper").requires_grad
    assert smoothed_quaternions(walk(6).requires_grad_(), valid, "released").requires_grad


def test_sign_flips_change_nothing_but_the_sign():
    q = walk(8)
    flipped = q.clone()
    flipped[[2, 3, 6]] *= -1
    valid = torch.ones(8, 2, dtype=torch.bool)
    once, twice = smoothed_quaternions(q, valid), smoothed_quaternions(flipped, valid)
    assert torch.allclose((once * twice).sum(-1).abs(), torch.ones(8, 2, dtype=torch.float64))
    assert ((twice * flipped).sum(-1) > 0).all()


def test_invalid_frames_do_not_enter_any_average():
    q = walk(8)
    valid = torch.ones(8, 2, dtype=torch.bool)
    valid[4, 0] = False
    wild = q.clone()
    wild[4, 0] = torch.nn.functional.normalize(torch.tensor([0.1, 1.0, 0.0, 0.0], dtype=torch.float64), dim=0)
    same, other = smoothed_quaternions(q, valid), smoothed_quaternions(wild, valid)
    keep = torch.arange(8) != 4
    assert torch.allclose(same[keep], other[keep])


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["paper", "released"])
def test_short_clips_keep_their_shape(frames, mode):
    q = walk(frames) if frames else torch.zeros(0, 2, 4, dtype=torch.float64)
    target = smoothed_quaternions(q, torch.ones(frames, 2, dtype=torch.bool), mode)
    assert target.shape == q.shape
    assert torch.isfinite(target).all()


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'paper' or 'released'"):
        smoothed_quaternions(walk(3), torch.ones(3, 2, dtype=torch.bool), "fast")


def test_low_pass_is_a_normalised_gaussian_over_valid_frames():
    values, generator = walk(9)[..., :3], torch.Generator().manual_seed(1)
    valid = torch.rand(9, 2, generator=generator) > 0.3
    smooth = low_passed(values, valid, 1.5)
    for t in range(9):
        for v in range(2):
            near = [(math.exp(-(((t - s) / 1.5) ** 2) / 2), values[s, v]) for s in range(9) if valid[s, v] and abs(t - s) <= 6]
            expected = sum(w * x for w, x in near) / sum(w for w, _ in near)
            assert torch.allclose(smooth[t, v], expected)


def test_low_pass_keeps_what_has_no_neighbours():
    values = walk(5)
    assert torch.equal(low_passed(values, torch.zeros(5, 2, dtype=torch.bool), 1.0), values)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_window_weights_are_those_of_a_polynomial_fitted_to_each_window(order):
    generator = torch.Generator().manual_seed(2)
    valid = torch.rand(12, 2, generator=generator) > 0.25
    values = torch.randn(12, generator=generator, dtype=torch.float64)
    weights = window_weights(valid, order)
    for t in range(12):
        for v in range(2):
            near = [s for s in range(max(0, t - 2), min(12, t + 3)) if valid[s, v]]
            if not near:
                assert not weights[t, :, v].any()
                continue
            degree = min(order, max(len(near) - 2, 0))
            expected = np.polyval(np.polyfit([s - t for s in near], values[near].numpy(), degree), 0)
            found = sum(weights[t, s - t + 2, v] * values[s] for s in near)
            assert found.item() == pytest.approx(expected, abs=1e-9)
    assert torch.allclose(weights.sum(1), valid.double().new_tensor(1.0) * (weights != 0).any(1))


def test_a_turn_at_growing_speed_is_its_own_target_at_order_two_only():
    angle = 0.002 * torch.arange(20, dtype=torch.float64) ** 2
    turn = rotvec_to_quaternion(torch.stack([0 * angle, angle, 0 * angle], -1)[:, None])
    valid = torch.ones(20, 1, dtype=torch.bool)
    off = [(smoothed_quaternions(turn, valid, "paper", order) - turn)[2:-2].norm(dim=-1).mean() for order in (0, 2)]
    assert off[1] < 0.05 * off[0]
