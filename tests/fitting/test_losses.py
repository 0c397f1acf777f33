"""The objective's terms against loops that spell out the papers' sums, and their invariants."""

import pytest
import torch

from neuface_ray.fitting.losses import acceleration, landmark_l1, mean_square, multiview_consistency, temporal_orientation

F, V, L, N = 6, 3, 5, 7


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_landmark_l1_is_the_weighted_mean_over_points_and_coordinates(rng):
    predicted, observed = torch.randn(2, F, V, L, 2, generator=rng)
    weight = torch.rand(F, V, L, generator=rng)
    total = sum(
        float(weight[f, v, k]) * float((predicted[f, v, k] - observed[f, v, k]).abs().sum())
        for f in range(F)
        for v in range(V)
        for k in range(L)
    )
    assert landmark_l1(predicted, observed, weight).item() == pytest.approx(total / (2 * weight.sum().item()), rel=1e-5)


def test_unobserved_landmarks_do_not_matter(rng):
    predicted, observed = torch.randn(2, F, V, L, 2, generator=rng)
    weight = torch.ones(F, V, L)
    weight[2:4, 1] = 0
    moved = predicted.clone()
    moved[2:4, 1] += 100
    assert landmark_l1(predicted, observed, weight) == landmark_l1(moved, observed, weight)
    assert landmark_l1(predicted, observed, torch.zeros(F, V, L)) == 0


def test_temporal_term_is_a_mean_over_frames_and_components_summed_over_views(rng):
    q, target = torch.randn(2, F, V, 4, generator=rng)
    valid = torch.ones(F, V, dtype=torch.bool)
    expected = sum(float(((q[:, v] - target[:, v]) ** 2).mean()) for v in range(V))
    assert temporal_orientation(q, target, valid).item() == pytest.approx(expected, rel=1e-5)


def test_multiview_term_vanishes_for_one_view_and_for_equal_views(rng):
    mesh = torch.randn(F, 1, N, 3, generator=rng)
    valid = torch.ones(F, 1, dtype=torch.bool)
    assert multiview_consistency(mesh, mesh[:, 0] + 1, valid) == 0
    assert multiview_consistency(mesh.expand(F, V, N, 3), mesh[:, 0], valid.expand(F, V)) == 0


def test_multiview_term_does_not_depend_on_the_order_of_views(rng):
    meshes, target = torch.randn(F, V, N, 3, generator=rng), torch.randn(F, N, 3, generator=rng)
    valid = torch.rand(F, V, generator=rng) > 0.3
    order = torch.tensor([2, 0, 1])
    once = multiview_consistency(meshes, target, valid)
    assert torch.allclose(once, multiview_consistency(meshes[:, order], target, valid[:, order]))
    expected = torch.stack([(meshes[f, v] - target[f]).abs().mean() for f in range(F) for v in range(V) if valid[f, v]]).mean()
    assert torch.allclose(once, expected)


def test_constant_velocity_has_no_acceleration_and_gaps_are_not_bridged():
    time = torch.arange(float(F))[:, None, None]
    valid = torch.ones(F, 1, dtype=torch.bool)
    assert acceleration(3 * time + 1, valid) == 0
    jump = torch.where(time >= 3, time + 10, time)
    assert acceleration(jump, valid) > 0
    valid[3] = False
    assert acceleration(jump.masked_fill(time == 3, 99.0), valid) == 0
    assert acceleration(time[:2], valid[:2]) == 0


def test_mean_square_is_measured_from_its_centre():
    assert mean_square(torch.full((4,), 3.0), 1.0) == 4


def test_mean_square_looks_at_valid_frames_alone(rng):
    values, centre = torch.randn(2, F, V, 4, generator=rng)
    valid = torch.rand(F, V, generator=rng) > 0.4
    expected = torch.stack([((values[f, v] - centre[f, v]) ** 2).mean() for f in range(F) for v in range(V) if valid[f, v]])
    assert mean_square(values, centre, valid).item() == pytest.approx(expected.mean().item(), rel=1e-5)
    assert mean_square(values, centre, torch.zeros(F, V, dtype=torch.bool)) == 0
    assert mean_square(values, centre).item() == pytest.approx(((values - centre) ** 2).mean().item(), rel=1e-5)
