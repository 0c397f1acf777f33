"""Closed-form starting values."""

import pytest
import torch

from neuface_ray.fitting.closed_form import fill_invalid, scaled_orthography
from neuface_ray.geometry.cameras import project_weak
from neuface_ray.geometry.rotations import rotvec_to_matrix


def test_scaled_orthography_recovers_pose_and_camera_exactly():
    generator = torch.Generator().manual_seed(3)
    points = 0.05 * torch.randn(4, 3, 30, 3, generator=generator, dtype=torch.float64)
    rotation = rotvec_to_matrix(torch.randn(4, 3, 3, generator=generator, dtype=torch.float64))
    camera = torch.tensor([8.0, 0.02, -0.01], dtype=torch.float64).expand(4, 3, 3)
    observed = project_weak(points @ rotation.transpose(-1, -2), camera)
    weight = torch.rand(4, 3, 30, generator=generator, dtype=torch.float64)
    found, found_camera = scaled_orthography(points, observed, weight)
    assert torch.allclose(found, rotation, atol=1e-5)
    assert torch.allclose(found_camera, camera, atol=1e-4)


def test_outliers_without_weight_do_not_matter_and_nothing_observed_is_finite():
    points = 0.05 * torch.randn(10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    observed = project_weak(points, torch.tensor([8.0, 0.0, 0.0], dtype=torch.float64))
    observed[3] += 10
    weight = torch.ones(10, dtype=torch.float64)
    weight[3] = 0
    rotation, _ = scaled_orthography(points, observed, weight)
    assert torch.allclose(rotation, torch.eye(3, dtype=torch.float64), atol=1e-5)
    rotation, camera = scaled_orthography(points, observed, torch.zeros(10, dtype=torch.float64))
    assert torch.allclose(rotation, torch.eye(3, dtype=torch.float64))
    assert camera.tolist() == [1, 0, 0]


def test_gaps_are_interpolated_in_time_and_ends_are_held():
    values = torch.tensor([9.0, 1.0, 9.0, 9.0, 4.0, 9.0]).reshape(6, 1, 1)
    valid = torch.tensor([False, True, False, False, True, False]).reshape(6, 1)
    assert fill_invalid(values, valid).flatten().tolist() == pytest.approx([1, 1, 2, 3, 4, 4])
    assert torch.equal(fill_invalid(values, torch.zeros(6, 1, dtype=torch.bool)), values)
