"""Direct fitting on clips with known truth, and its invariants."""

import copy
from dataclasses import replace

import pytest
import torch

from neuface_ray.fitting.objective import Objective
from neuface_ray.fitting.observations import Observations
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.direct_fitting.fit import (
    decode,
    fit_directly,
    initial_pose,
    pose_in_world,
    start_values,
)
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.metrics.annotation import mpve
from tests.fitting.made import make_clip

QUICK = DirectFittingSettings(pose_steps=20, steps=60)


def canonical(head, parameters: HeadParameters) -> torch.Tensor:
    still = torch.cat([torch.zeros_like(parameters.pose[..., :3]), parameters.pose[..., 3:]], -1)
    return head(parameters.identity, parameters.expression, still)


def face_error_mm(head, found: torch.Tensor, truth: torch.Tensor, alignment: str) -> float:
    face = head.regions["face"]
    return float(mpve(found[..., face, :].numpy(), truth[..., face, :].numpy(), alignment).mean())


@pytest.fixture(scope="module")
def three_views(head):
    return make_clip(head, frames=8, azimuths=(-0.6, 0.0, 0.6), calibrated=True, noise=0.003)


def test_three_calibrated_views_recover_the_metric_head(head, three_views):
    clip, truth = three_views
    parameters = fit_directly(
        head, Observations.of(clip, head), DirectFittingSettings(shape_prior=0.002, expression_prior=0.002)
    ).parameters
    assert face_error_mm(head, canonical(head, parameters)[:, 0], truth.canonical, "rigid") < 2.5
    turn = rotvec_to_matrix(parameters.pose[..., :3]).transpose(-1, -2) @ rotvec_to_matrix(truth.pose[..., :3])
    angle = torch.rad2deg(torch.acos(((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)))
    assert angle.mean() < 3


def test_calibrated_start_is_already_near_and_survives_a_lost_view(head, three_views):
    clip, _ = three_views
    observations = Observations.of(clip, head)
    lost = torch.ones_like(observations.valid)
    lost[3, :2] = False
    observations = replace(observations, valid=lost, weight=observations.weight * lost[..., None])
    rotation, camera = initial_pose(head, observations)
    _, position = pose_in_world(head, rotation, camera, observations)
    assert position.shape == (8, 1, 3)
    assert position.norm(dim=-1).max() < 0.06


def test_one_view_recovers_landmarks_and_a_plausible_head(head):
    clip, truth = make_clip(head, frames=6, azimuths=(0.2,), calibrated=False)
    observations = Observations.of(clip, head)
    fit = fit_directly(head, observations, DirectFittingSettings())
    error = (
        Objective(head, observations, DirectFittingSettings().objective).project(fit.parameters) - observations.landmarks
    ).norm(dim=-1)
    assert error.mean() < 0.02
    assert fit.parameters.identity.square().mean().sqrt() < 1.5
    mean_head = face_error_mm(head, head.template.expand_as(truth.canonical), truth.canonical, "similarity")
    assert face_error_mm(head, canonical(head, fit.parameters)[:, 0], truth.canonical, "similarity") < mean_head


def test_bounded_expressions_stay_within_their_bounds(head):
    clip, _ = make_clip(head, frames=4, azimuths=(0.0,), calibrated=False, noise=0.05)
    expression = fit_directly(head, Observations.of(clip, head), QUICK).parameters.expression
    assert expression.min() >= 0
    assert expression.max() <= 1


def test_frames_without_a_face_change_nothing_and_are_bridged(head):
    clip, _ = make_clip(head, frames=7, azimuths=(0.0,), calibrated=False)
    clip.valid[3] = False
    clip.landmark_confidence[3] = 0
    other = replace(clip, landmarks=clip.landmarks.copy())
    other.landmarks[3] = 5.0
    once = fit_directly(head, Observations.of(clip, head), QUICK).parameters
    twice = fit_directly(head, Observations.of(other, head), QUICK).parameters
    assert torch.equal(once.expression, twice.expression)
    assert torch.equal(once.pose, twice.pose)
    middle = (once.pose[2, 0, :3] + once.pose[4, 0, :3]) / 2
    assert torch.allclose(once.pose[3, 0, :3], middle, atol=0.05)


def test_order_of_views_does_not_matter(head):
    clip, _ = make_clip(head, frames=5, azimuths=(-0.4, 0.0, 0.5), calibrated=False)
    order = [2, 0, 1]
    turned = replace(
        clip,
        landmarks=clip.landmarks[:, order],
        crop_to_image=clip.crop_to_image[:, order],
        segment=replace(clip.segment, views=tuple(clip.segment.views[i] for i in order)),
    )
    once = fit_directly(head, Observations.of(clip, head), QUICK).parameters
    twice = fit_directly(head, Observations.of(turned, head), QUICK).parameters
    assert (canonical(head, once)[:, order] - canonical(head, twice)).norm(dim=-1).max() < 1e-3


def test_a_clip_without_any_face_gives_finite_numbers(head):
    clip, _ = make_clip(head, frames=3, azimuths=(0.0,), calibrated=False)
    clip.valid[:] = False
    clip.landmark_confidence[:] = 0
    parameters = fit_directly(head, Observations.of(clip, head), QUICK).parameters
    assert all(
        torch.isfinite(value).all()
        for value in (parameters.identity, parameters.expression, parameters.pose, parameters.camera)
    )


def test_fitting_is_deterministic(head):
    clip, _ = make_clip(head, frames=4, azimuths=(0.0, 0.4), calibrated=False, noise=0.01)
    once, twice = (fit_directly(head, Observations.of(clip, head), QUICK).parameters for _ in range(2))
    assert torch.equal(once.identity, twice.identity)
    assert torch.equal(once.pose, twice.pose)


def test_gradient_of_the_objective_is_exact_in_float64(head):
    clip, _ = make_clip(head, frames=3, azimuths=(0.1, 0.5), calibrated=False, noise=0.05)
    head = copy.deepcopy(head).double()
    observations = Observations.of(clip, head)
    observations = replace(observations, landmarks=observations.landmarks.double(), weight=observations.weight.double())
    objective = Objective(head, observations, ObjectiveSettings(temporal=0, view=0))
    unknown = start_values(head, observations, QUICK)
    unknown["expression"] += 0.1

    def loss(root, shape, expression, camera):
        moved = {**unknown, "root": root, "shape": shape, "expression": expression, "camera": camera}
        return sum(objective.terms(decode(moved, head, observations)).values())

    inputs = [unknown[name].clone().requires_grad_() for name in ("root", "shape", "expression", "camera")]
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, atol=1e-4, fast_mode=True)
