"""NeuFace's optimisation: exactness of what is cached and split, no memory between clips, falling back when it diverges."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuface_ray.config import load
from neuface_ray.errors import UsageError
from neuface_ray.fitting.identity import distinct_directions, shrinkage_correction
from neuface_ray.fitting.objective import Objective
from neuface_ray.fitting.observations import Observations
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.fitting.temporal import low_passed
from neuface_ray.geometry.rotations import quaternion_to_rotvec, rotvec_to_matrix, rotvec_to_quaternion
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.encoder.predict import encode_fixed, predict
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.methods.neuface.fit import (
    PRIOR_LOW_PASS,
    Problem,
    batches,
    blended,
    chunks,
    converged,
    fit_chunk,
    fit_neuface,
    iterate,
    micro_batches,
    prior_means,
    ramps,
    step_share,
)
from neuface_ray.methods.neuface.settings import NeufaceFitSettings
from neuface_ray.methods.registry import AnnotatorConfig
from neuface_ray.synthesis.faces import FaceOptions, make_face
from neuface_ray.synthesis.motion import MotionRange
from neuface_ray.synthesis.renderer import Renderer
from tests.fitting.made import make_clip

FRAMES = 4


@pytest.fixture(scope="module")
def encoder() -> CompactEncoder:
    """An untrained encoder: what is tested here does not depend on what it has learnt."""
    torch.manual_seed(0)
    encoder = CompactEncoder()
    torch.nn.init.normal_(encoder.top[-1].weight, std=0.02)
    return encoder


def observed(head, views=(0.0,), seed=0):
    clip, _ = make_clip(head, frames=FRAMES, azimuths=views, calibrated=False, seed=seed)
    pictures = np.random.default_rng(seed).integers(0, 255, (FRAMES, len(views), 3, 128, 128), dtype=np.uint8)
    return torch.from_numpy(pictures), Observations.of(clip, head)


def same(a, b, **tolerance) -> bool:
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("identity", "expression", "pose", "camera")]
    return all(torch.allclose(x, y, **tolerance) if tolerance else torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("views", [(0.0,), (-0.4, 0.4)])
def test_moving_weights_lowers_the_landmark_error_and_leaves_the_checkpoint_alone(head, encoder, views):
    crops, observations = observed(head, views)
    before = copy.deepcopy(encoder.state_dict())
    none, some = (fit_neuface(encoder, head, crops, observations, NeufaceFitSettings(iterations=n, lr=3e-4)) for n in (0, 25))
    objective = Objective(head, observations, ObjectiveSettings())
    assert objective.terms(some.parameters)["landmark"] < 0.7 * objective.terms(none.parameters)["landmark"]
    assert some.parameters.identity.shape == (1, 1, head.n_shape)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_identity_is_shrunk_less_where_directions_differ(head):
    _, observations = observed(head)
    renderer, turning = Renderer(head), load_encoder("compact")
    faces = [make_face(renderer, FaceOptions(motion=MotionRange(yaw_deg=80)), 2, index).image for index in range(FRAMES)]
    crops = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2)[:, None]
    turning.snr = 0.8
    first = predict(turning, [encode_fixed(turning, crops.flatten(0, 1))], FRAMES, 1)
    directions = distinct_directions(first.pose, observations.valid)
    assert directions > 1
    fit = fit_neuface(turning, head, crops, observations, NeufaceFitSettings(iterations=0)).parameters
    assert torch.allclose(fit.identity, shrinkage_correction(directions, 0.8) * first.identity.mean((0, 1), keepdim=True))
    official = NeufaceFitSettings(objective=ObjectiveSettings(fidelity="official_code"), iterations=0)
    assert torch.equal(fit_neuface(turning, head, crops, observations, official).parameters.identity, first.identity[:1])


def test_what_came_before_leaves_no_trace(head, encoder):
    config = NeufaceFitSettings(iterations=3)
    first, second = observed(head, seed=1), observed(head, seed=2)
    alone = fit_neuface(encoder, head, *second, config).parameters
    fit_neuface(encoder, head, *first, config)
    assert same(alone, fit_neuface(encoder, head, *second, config).parameters)


@pytest.mark.parametrize("stage", ["stem", "stage4", "top"])
def test_micro_batches_give_the_gradient_of_the_whole(head, encoder, stage):
    crops, observations = observed(head, (0.0, 0.3))
    config = NeufaceFitSettings(trainable_from=stage)
    gradients = []
    for size in (8, 3):
        work = copy.deepcopy(encoder)
        moving = work.train_from(stage)
        features = [encode_fixed(work, part) for part in crops.flatten(0, 1).split(size)]
        first = predict(work, features, FRAMES, 2)
        still = torch.optim.SGD(moving, lr=0.0)
        iterate(Problem(work, features, Objective(head, observations, config.objective), first, config), still, 0)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in moving]))
    assert gradients[0].abs().max() > 0
    assert torch.allclose(*gradients, atol=1e-5 * float(gradients[0].abs().max()), rtol=1e-3)


def test_only_the_named_stages_move(head, encoder):
    work = copy.deepcopy(encoder)
    moving = work.train_from("stage4")
    names = {name for name, value in work.named_parameters() if value.requires_grad}
    assert {name.split(".")[0] for name in names} == {"stage4", "top"}
    assert len(moving) == len(names)


def test_a_fixed_feature_gives_what_the_whole_encoder_gives(encoder):
    work = copy.deepcopy(encoder)
    work.train_from("top")
    crops = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    part, whole = work.head(encode_fixed(work, crops)), encoder(crops.float() / 255)
    assert torch.allclose(part.identity, whole.identity, atol=1e-6)
    assert torch.allclose(part.camera, whole.camera, atol=1e-5)


def test_divergence_falls_back_to_the_last_good_iterate(head, encoder):
    crops, observations = observed(head)
    fit = fit_neuface(encoder, head, crops, observations, NeufaceFitSettings(iterations=30, lr=10.0))
    assert fit.reasons == ("diverged",)
    start = fit_neuface(encoder, head, crops, observations, NeufaceFitSettings(iterations=0))
    assert same(fit.parameters, start.parameters)


def test_frames_without_a_face_are_bridged_and_change_nothing(head, encoder):
    crops, observations = observed(head)
    valid = torch.tensor([[True], [False], [True], [True]])
    observations = replace(observations, valid=valid, weight=observations.weight * valid[..., None])
    blank = crops.clone()
    blank[1] = 0
    once, twice = (
        fit_neuface(encoder, head, c, observations, NeufaceFitSettings(iterations=3)).parameters for c in (crops, blank)
    )
    assert same(once, twice, atol=1e-5)
    assert torch.allclose(once.expression[1], (once.expression[0] + once.expression[2]) / 2, atol=1e-6)


def test_priors_keep_the_answer_near_the_encoders_first(head, encoder):
    crops, observations = observed(head)
    first = fit_neuface(encoder, head, crops, observations, NeufaceFitSettings(iterations=0)).parameters
    near, free = (
        fit_neuface(
            encoder, head, crops, observations, NeufaceFitSettings(iterations=15, shape_prior=w, expression_prior=w)
        ).parameters
        for w in (1e3, 0.0)
    )
    for name in ("identity", "expression"):
        moved, by_itself = ((getattr(parameters, name) - getattr(first, name)).norm() for parameters in (near, free))
        assert moved < 0.5 * by_itself


def test_the_prior_mean_is_smooth_only_where_the_objective_looks_along_time(head, encoder):
    crops, observations = observed(head)
    parameters = predict(encoder, [encode_fixed(encoder, crops.flatten(0, 1))], FRAMES, 1)
    still = prior_means(parameters, observations, ObjectiveSettings(temporal=0, smoothness=0))
    smooth = prior_means(parameters, observations, ObjectiveSettings())
    assert still.identity.shape == (1, 1, head.n_shape)
    assert torch.equal(still.expression, parameters.expression)
    assert torch.equal(smooth.expression, low_passed(parameters.expression, observations.valid, PRIOR_LOW_PASS))
    slow = prior_means(parameters, replace(observations, fps=12.5), ObjectiveSettings())
    assert torch.equal(slow.expression, low_passed(parameters.expression, observations.valid, PRIOR_LOW_PASS / 2))


def test_terms_in_time_follow_the_frame_rate_but_the_papers_average_does_not(head, encoder):
    crops, observations = observed(head)
    parameters = predict(encoder, [encode_fixed(encoder, crops.flatten(0, 1))], FRAMES, 1)

    def terms(fps, order, fidelity="paper"):
        config = ObjectiveSettings(temporal=7.0, temporal_order=order, smoothness=3.0, fidelity=fidelity)
        return Objective(head, replace(observations, fps=fps), config).terms(parameters)

    base, fast, paper, paper_fast = terms(25.0, 2), terms(50.0, 2), terms(25.0, 0), terms(50.0, 0)
    official, official_fast = terms(25.0, 2, "official_code"), terms(50.0, 2, "official_code")
    assert base["temporal"] > 0
    assert base["smoothness"] > 0
    torch.testing.assert_close(fast["temporal"], 4 * base["temporal"])
    torch.testing.assert_close(fast["smoothness"], 4 * base["smoothness"])
    torch.testing.assert_close(paper_fast["temporal"], paper["temporal"])
    torch.testing.assert_close(official_fast["temporal"], official["temporal"])
    torch.testing.assert_close(fast["landmark"], base["landmark"])


@pytest.mark.parametrize(("fps", "used"), [(50.0, 50.0), (0.0, 25.0), (float("nan"), 25.0), (float("inf"), 25.0)])
def test_observations_know_the_frame_rate_of_their_clip(head, fps, used):
    clip, _ = make_clip(head, frames=FRAMES, azimuths=(0.0,), calibrated=False)
    assert Observations.of(replace(clip, fps=fps), head).fps == used


def test_the_prior_mean_is_that_of_the_valid_views_where_the_objective_looks_across_them(head, encoder):
    crops, observations = observed(head, (-0.4, 0.4))
    parameters = predict(encoder, [encode_fixed(encoder, crops.flatten(0, 1))], FRAMES, 2)
    valid = observations.valid.clone()
    valid[1, 0] = False
    observations = replace(observations, valid=valid)
    apart, joined = (prior_means(parameters, observations, ObjectiveSettings(temporal=0, view=w)).expression for w in (0, 1))
    assert torch.equal(apart, parameters.expression)
    assert torch.allclose(joined[0], parameters.expression[0].mean(0).expand(2, -1))
    assert torch.allclose(joined[1], parameters.expression[1, 1].expand(2, -1))


def test_views_can_agree_by_expressions_not_by_a_smaller_head(head, encoder):
    crops, observations = observed(head, (-0.4, 0.4))
    features = [encode_fixed(encoder, crops.flatten(0, 1))]
    leaves = predict(encoder, features, FRAMES, 2).map(torch.Tensor.requires_grad_).tensors
    shared = HeadParameters(leaves[0].mean((0, 1), keepdim=True), *leaves[1:])
    Objective(head, observations, ObjectiveSettings(landmark=0, temporal=0)).terms(shared)["view"].backward()
    assert leaves[0].grad is None
    assert leaves[1].grad.abs().sum() > 0


def test_official_form_steps_through_batches_of_twenty_and_drops_no_tail():
    assert [len(part) for part in batches(120, "official_code")] == [20] * 6
    assert [len(part) for part in batches(43, "official_code")] == [20, 23]
    assert [len(part) for part in batches(47, "official_code")] == [20, 20, 7]
    assert batches(120, "paper") == [range(120)]
    assert [frame for part in batches(83, "official_code") for frame in part] == list(range(83))


def test_micro_batches_cut_stored_features_at_frame_borders():
    features = list(torch.arange(20).split(6))
    chosen = torch.cat([feature[part] for feature, part in micro_batches(features, range(2, 8), views=2)])
    assert chosen.tolist() == list(range(4, 16))


def test_convergence_needs_two_spans_of_ten():
    assert not converged([1.0] * 10, 0.01)
    assert converged([1.0] * 20, 0.01)
    assert not converged([2.0 - 0.1 * i for i in range(20)], 0.01)


@pytest.mark.parametrize(("frames", "most", "overlap"), [(201, 200, 8), (1000, 200, 8), (5, 4, 1), (37, 10, 3)])
def test_chunks_cover_the_clip_and_their_weights_sum_to_one(frames, most, overlap):
    parts = chunks(frames, most, overlap)
    assert parts[0].start == 0
    assert parts[-1].stop == frames
    assert all(part.stop - part.start <= most for part in parts)
    assert all(left.stop - right.start == overlap for left, right in itertools.pairwise(parts))
    total = torch.zeros(frames)
    for part, weight in zip(parts, ramps(parts), strict=True):
        total[part] += weight
    assert torch.allclose(total, torch.ones(frames))


def test_parts_of_one_motion_blend_into_that_motion():
    parts, frames = chunks(30, 12, 4), 30
    turn = torch.zeros(frames, 1, 15)
    turn[:, 0, 1] = torch.linspace(2.9, 3.4, frames)
    whole = HeadParameters(torch.ones(1, 1, 3), torch.randn(frames, 1, 5), turn, torch.randn(frames, 1, 3))
    wrapped = quaternion_to_rotvec(rotvec_to_quaternion(turn.unflatten(-1, (-1, 3)))).flatten(2)
    pieces = [
        HeadParameters(whole.identity, whole.expression[p], (wrapped if p.start else turn)[p], whole.camera[p]) for p in parts
    ]
    joined = blended(pieces, parts)
    assert torch.allclose(joined.expression, whole.expression, atol=1e-6)
    assert torch.allclose(joined.camera, whole.camera, atol=1e-6)
    matrices = [rotvec_to_matrix(pose[..., :3]) for pose in (joined.pose, turn)]
    assert torch.allclose(*matrices, atol=1e-4)


def test_a_long_clip_has_one_identity_and_no_seam(head, encoder):
    clip, _ = make_clip(head, frames=14, azimuths=(0.0,), calibrated=False, seed=3)
    observations = Observations.of(clip, head)
    pictures = torch.randint(0, 255, (1, 1, 3, 128, 128), dtype=torch.uint8).expand(14, -1, -1, -1, -1)
    config = NeufaceFitSettings(iterations=4, chunk_frames=6, chunk_overlap=2)
    parameters = fit_neuface(encoder, head, pictures, observations, config).parameters
    assert parameters.identity.shape == (1, 1, head.n_shape)
    assert parameters.pose.shape == (14, 1, 15)
    inside = [
        fit_chunk(encoder, head, pictures[p], observations.of_frames(p), config, parameters.identity) for p in chunks(14, 6, 2)
    ]
    low = torch.minimum(inside[0].parameters.camera[-2:], inside[1].parameters.camera[:2])
    high = torch.maximum(inside[0].parameters.camera[-2:], inside[1].parameters.camera[:2])
    assert ((parameters.camera[4:6] >= low - 1e-5) & (parameters.camera[4:6] <= high + 1e-5)).all()


def test_the_step_size_rises_then_falls_to_zero():
    shares = [step_share(number, 100) for number in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == max(shares[8:11])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 < shares[-1] < 1e-3
    assert 0 < step_share(0, 1) <= 1


@pytest.mark.parametrize("wrong", ["temporal_order=1", "fidelity=faithful"])
def test_unknown_choices_are_refused_before_any_work(wrong):
    with pytest.raises(UsageError, match=f"objective.{wrong.split('=')[0]}=.*choose"):
        load(AnnotatorConfig, None, ["name=neuface", f"neuface.fit.objective.{wrong}"])


def test_a_clip_without_faces_is_not_optimised(head, encoder):
    crops, observations = observed(head)
    empty = replace(observations, valid=torch.zeros_like(observations.valid), weight=torch.zeros_like(observations.weight))
    fit = fit_neuface(encoder, head, crops, empty, NeufaceFitSettings())
    assert fit.terms == {}
    assert same(fit.parameters, fit_neuface(encoder, head, crops, empty, NeufaceFitSettings(iterations=0)).parameters)
    assert all(part.isfinite().all() for part in fit.parameters.tensors)


@pytest.mark.parametrize("faceless", [slice(0, 2), slice(2, 4)])
def test_a_chunk_without_faces_leaves_the_others_their_terms(head, encoder, faceless):
    crops, observations = observed(head)
    valid = observations.valid.clone()
    valid[faceless] = False
    observations = replace(observations, valid=valid, weight=observations.weight * valid[..., None])
    fit = fit_neuface(encoder, head, crops, observations, NeufaceFitSettings(iterations=3, chunk_frames=2, chunk_overlap=0))
    assert fit.terms["landmark"] > 0
    assert torch.isfinite(fit.parameters.expression).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": -1},
        {"micro_batch": 0},
        {"lr": 0.0},
        {"chunk_frames": 0, "chunk_overlap": 0},
        {"chunk_frames": 4, "chunk_overlap": 3},
        {"shape_prior": -1.0},
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(wrong):
    with pytest.raises(UsageError, match=f"fit.{next(iter(wrong))}={next(iter(wrong.values()))}"):
        NeufaceFitSettings(**wrong)
