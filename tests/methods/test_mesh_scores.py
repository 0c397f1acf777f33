import math

import pytest
import torch

from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.methods.mesh_scores import mesh_scores


@pytest.fixture
def meshes():
    generator = torch.Generator().manual_seed(0)
    truth = 50 * torch.randn(3, 40, 3, generator=generator)
    return truth, torch.arange(5, 30), generator


def test_moving_depth_alone_costs_nothing_in_the_picture(meshes):
    truth, face, _ = meshes
    depth = torch.nn.functional.normalize(torch.tensor([[0.0, 0, 1], [1, 2, 2], [0, 1, 0]]), dim=-1)
    far = truth + (torch.tensor([3.0, -7.0, 20.0])[:, None] * depth)[:, None]
    scores = mesh_scores(far, truth, face, depth)
    assert torch.allclose(scores["mpve_none_face_mm"], torch.tensor([3.0, 7.0, 20.0]), atol=1e-4)
    assert scores["mpve_image_face_mm"].max() < 1e-4
    assert scores["mpve_rigid_face_mm"].max() < 1e-3
    aside = truth + torch.tensor([3.0, 4.0, 9.0])
    assert torch.allclose(mesh_scores(aside, truth, face)["mpve_image_face_mm"], torch.tensor(5.0), atol=1e-4)


def test_turns_count_but_for_rigid_alignment_and_scale_always_does(meshes):
    truth, face, _ = meshes
    turned = truth @ rotvec_to_matrix(torch.tensor([0.0, math.pi / 8, 0.0])).T
    scores = mesh_scores(turned, truth, face)
    assert scores["mpve_rigid_face_mm"].max() < 1e-3
    assert scores["mpve_image_face_mm"].min() > 5
    assert (mesh_scores(1.1 * truth, truth, face)["mpve_rigid_face_mm"] > 2).all()


def test_only_the_face_is_measured(meshes):
    truth, face, generator = meshes
    other = truth.clone()
    outside = torch.ones(40, dtype=torch.bool)
    outside[face] = False
    other[:, outside] += torch.randn(3, int(outside.sum()), 3, generator=generator)
    assert all(value.max() < 1e-4 for value in mesh_scores(other, truth, face).values())
