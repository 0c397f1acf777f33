"""The smoothed orientations of the E-step, in the paper's and the official form."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from neuface_ray.fitting.temporal import low_passed, smoothed_quaternions, window_weights
from neuface_ray.geometry.rotations import rotvec_to_quaternion


def walk(frames: int, views: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = 0.05 * torch.randn(frames, views, 3, generator=generator, dtype=torch.float64)
    return rotvec_to_quaternion(steps.cumsum(0))


def naive_average(q: torch.Tensor, t: int, v: int, before: int, after: int) -> torch.Tensor:
    window = [q[s, v] for s in range(max(0, t - before), min(len(q), t + after + 1))]
    mean = torch.stack(window).mean(0)
    return mean / mean.norm()


@pytest.mark.parametrize("mode", ["paper", "official_code"])
def test_constant_orientation_is_its_own_target(mode):
    q = walk(1).expand(7, 2, 4)
    assert torch.allclose(smoothed_quaternions(q, torch.ones(7, 2, dtype=torch.bool), mode), q)


def test_paper_window_is_centred_and_truncated_at_the_ends():
    q = walk(9)
    target = smoothed_quaternions(q, torch.ones(9, 2, dtype=torch.bool), "paper")
    for t in range(9):
        for v in range(2):
            assert torch.allclose(target[t, v], naive_average(q, t, v, 2, 2))


def test_official_window_is_four_frames_and_leaves_the_edges():
    q = walk(9)
    target = smoothed_quaternions(q, torch.ones(9, 2, dtype=torch.bool), "official_code")
    for t in range(9):
        for v in range(2):
            expected = naive_average(q, t, v, 2, 1) if 2 <= t < 7 else q[t, v]
            assert torch.allclose(target[t, v], expected)


def test_only_the_official_form_lets_gradients_through():
    valid = torch.ones(6, 2, dtype=torch.bool)
    assert not smoothed_quaternions(walk(6).requires_grad_(), valid, "paper").requires_grad
    assert smoothed_quaternions(walk(6).requires_grad_(), valid, "official_code").requires_grad


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
@pytest.mark.parametrize("mode", ["paper", "official_code"])
def test_short_clips_keep_their_shape(frames, mode):
    q = walk(frames) if frames else torch.zeros(0, 2, 4, dtype=torch.float64)
    target = smoothed_quaternions(q, torch.ones(frames, 2, dtype=torch.bool), mode)
    assert target.shape == q.shape
    assert torch.isfinite(target).all()


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'paper' or 'official_code'"):
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


def some_valid(frames: int = 12) -> torch.Tensor:
    return torch.rand(frames, 2, generator=torch.Generator().manual_seed(2)) > 0.25


def test_window_weights_of_order_0_average_the_valid_frames_of_the_window():
    valid, weights = some_valid(), window_weights(some_valid(), 0)
    for t in range(12):
        for v in range(2):
            near = [s for s in range(max(0, t - 2), min(12, t + 3)) if valid[s, v]]
            expected = [1 / len(near) if t + k - 2 in near else 0.0 for k in range(5)]
            assert weights[t, :, v].tolist() == pytest.approx(expected)


def test_order_2_steps_down_the_squared_second_differences_of_valid_frames():
    valid, weights = some_valid(), window_weights(some_valid(), 2)
    values = torch.randn(12, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    for v in range(2):
        energy = sum((values[t] - 2 * values[t + 1] + values[t + 2]) ** 2 for t in range(10) if valid[t : t + 3, v].all())
        (slope,) = torch.autograd.grad(energy, values)
        for t in range(12):
            expected = (values - 3 / 35 * slope / 2)[t].item() * bool(valid[t, v])
            found = sum(weights[t, s - t + 2, v] * values[s] for s in range(max(0, t - 2), min(12, t + 3)))
            assert found.item() == pytest.approx(expected, abs=1e-12)


def test_order_2_is_the_quadratic_of_savitzky_and_golay_where_all_frames_are_there():
    t = np.arange(-2, 3)
    fit = np.stack([np.polyval(np.polyfit(t, row, 2), 0) for row in np.eye(5)])
    assert window_weights(torch.ones(9, 1, dtype=torch.bool), 2)[4, :, 0].numpy() == pytest.approx(fit)


@pytest.mark.parametrize("missing", [[], [0], [5], [3, 6, 7], list(range(12))])
def test_order_2_cannot_drive_orientations_apart(missing):
    """The pull is symmetric and without negative eigenvalues, so no motion feeds on itself; uniform motion is left alone."""
    valid = torch.ones(12, 1, dtype=torch.bool)
    valid[missing] = False
    weights, matrix = window_weights(valid, 2)[..., 0].numpy(), np.zeros((12, 16))
    for t in range(12):
        matrix[t, t : t + 5] = weights[t]
    pull = (np.diag(valid[:, 0].double().numpy()) - matrix[:, 2:-2])[valid[:, 0]][:, valid[:, 0]]
    assert np.allclose(pull, pull.T)
    assert np.linalg.eigvalsh(pull).min(initial=0) > -1e-12
    assert np.allclose(pull @ np.flatnonzero(valid[:, 0]), 0)


def test_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order must be 0 or 2"):
        smoothed_quaternions(walk(3), torch.ones(3, 2, dtype=torch.bool), order=1)


def test_a_turn_at_growing_speed_is_its_own_target_at_order_two_only():
    angle = 0.002 * torch.arange(20, dtype=torch.float64) ** 2
    turn = rotvec_to_quaternion(torch.stack([0 * angle, angle, 0 * angle], -1)[:, None])
    valid = torch.ones(20, 1, dtype=torch.bool)
    off = [(smoothed_quaternions(turn, valid, "paper", order) - turn)[2:-2].norm(dim=-1).mean() for order in (0, 2)]
    assert off[1] < 0.05 * off[0]


@pytest.mark.parametrize("strength", [0.5, 1.5, 3.0])
def test_low_pass_is_the_textbook_filter_where_all_frames_are_valid(strength):
    values = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = low_passed(values, torch.ones(40, 2, dtype=torch.bool), strength)
    inside = slice(12, 28)
    np.testing.assert_allclose(smooth[inside], gaussian_filter1d(values.numpy(), strength, axis=0)[inside], atol=1e-12)
