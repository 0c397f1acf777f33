"""Direct parameter fitting: the papers' strong baseline, for any head, any number of views and frames.

Head parameters themselves are the unknowns (NeuFace, Eq. 5 and A.1), fitted coarse to fine by Adam: first orientation and
camera, started from a closed form, then everything. Where the paper leaves numbers open, ours were tuned for landmark error
on held-out points and for geometry against scans. Differences from the paper's sketch: one identity per clip; expression
weights of bounded heads are projected onto [0, 1]; views with known cameras share one head pose and expression; landmarks on
the far side of a turned head count less, because detectors guess them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from neuface_ray.fitting.closed_form import fill_invalid, scaled_orthography
from neuface_ray.fitting.losses import mean_square
from neuface_ray.fitting.objective import Fit, Objective
from neuface_ray.fitting.observations import Observations
from neuface_ray.geometry.cameras import transform_points, view_rotation, weak_from_pinhole, world_to_view
from neuface_ray.geometry.mesh import vertex_normals
from neuface_ray.geometry.rotations import matrix_to_rotvec, mean_rotation, rotvec_to_matrix
from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.types import ARKIT_NAMES, JOINT_NAMES


def fit_directly(head: HeadModel, observations: Observations, config: DirectFittingSettings) -> Fit:
    """Fits the head to the landmarks of a clip.

    Args:
        head: any head model, on the device of the observations. observations: of the clip. config: weights and steps.

    Returns:
        The fitted parameters; frames without a face carry values interpolated in time. A clip in which nothing is valid
        returns the mean head.
    """
    unknown = start_values(head, observations, config)
    objective = Objective(head, observations, config.objective)
    pose_names = ("root", "camera", "position")
    optimise({k: unknown[k] for k in pose_names if k in unknown}, unknown, head, objective, config, config.pose_steps)
    observations = discount_hidden(head, observations, decode(unknown, head, observations).pose, config.hidden_weight)
    objective = Objective(head, observations, config.objective)
    last = optimise(unknown, unknown, head, objective, config, config.steps)
    with torch.no_grad():
        parameters = decode(unknown, head, observations)
    return Fit(parameters, last)


def start_values(head: HeadModel, observations: Observations, config: DirectFittingSettings) -> dict[str, Tensor]:
    """Starting values of the unknowns: mean identity, closed-form pose and camera, expressions from blendshape scores.

    Returns:
        ``shape`` (1, 1, S), ``expression`` (F, W, E), ``joints`` (F, W, 12), ``root`` (F, W, 3) and either ``camera``
        (F, V, 3) as log scale, tx, ty, or, for calibrated clips with W = 1, ``position`` (F, 1, 3) of the root joint in
        the world; otherwise W = V.
    """
    frames, views = observations.landmarks.shape[:2]
    rotation, camera = initial_pose(head, observations)
    width = 1 if observations.calibrated else views
    unknown = {
        "shape": observations.landmarks.new_zeros(1, 1, head.n_shape),
        "expression": initial_expression(head, observations, config.use_blendshapes),
        "joints": observations.landmarks.new_zeros(frames, width, 12),
    }
    if observations.calibrated:
        unknown["root"], unknown["position"] = pose_in_world(head, rotation, camera, observations)
    else:
        unknown["root"] = fill_invalid(matrix_to_rotvec(rotation), observations.valid)
        camera = fill_invalid(camera, observations.valid)
        unknown["camera"] = torch.cat([camera[..., :1].log(), camera[..., 1:]], -1)
    return unknown


def initial_pose(head: HeadModel, observations: Observations) -> tuple[Tensor, Tensor]:
    """Rotation (F, V, 3, 3) and weak-perspective camera (F, V, 3) of the mean head in closed form."""
    points = head.landmarks(head.template, observations.scheme)
    rotation, camera = scaled_orthography(
        points.expand(*observations.weight.shape, 3), observations.landmarks, observations.weight
    )
    # The head turns about its root joint, the closed form about the origin: move the camera by the difference.
    joint = head.joints(points.new_zeros(head.n_shape), points.new_zeros(head.n_expression))[0]
    shift = (rotation @ joint - joint)[..., :2]
    return rotation, torch.cat([camera[..., :1], camera[..., 1:] + shift], -1)


def initial_expression(head: HeadModel, observations: Observations, use_blendshapes: bool) -> Tensor:
    """Expression coefficients (F, W, E) from the detector's scores where names agree, else zero; W = 1 when calibrated."""
    frames, views = observations.landmarks.shape[:2]
    expression = observations.landmarks.new_zeros(frames, views, head.n_expression)
    if use_blendshapes and observations.blendshapes is not None:
        for index, name in enumerate(head.expression_names):
            if name in ARKIT_NAMES:
                expression[..., index] = observations.blendshapes[..., ARKIT_NAMES.index(name)]
    expression = fill_invalid(expression, observations.valid)
    if not observations.calibrated:
        return expression
    share = observations.valid.to(expression.dtype)[..., None]
    mean = (share * expression).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp_min(1)
    return fill_invalid(mean, observations.valid.any(1, keepdim=True))


def pose_in_world(head: HeadModel, rotation: Tensor, camera: Tensor, observations: Observations) -> tuple[Tensor, Tensor]:
    """One head pose per frame from the views of calibrated cameras.

    Orientations are averaged over the valid views; the root joint is where the viewing rays meet in the least-squares sense,
    with the depth that the weak-perspective scale implies as a weak second witness, so that one valid view is enough.

    Returns:
        Root rotation vector and root joint position in the world, (F, 1, 3) each.
    """
    valid = observations.valid.to(rotation.dtype)
    to_view = view_rotation(observations.world_to_camera)
    root = matrix_to_rotvec(mean_rotation(to_view.transpose(-1, -2) @ rotation, valid))[:, None]

    joint = head.joints(rotation.new_zeros(head.n_shape), rotation.new_zeros(head.n_expression))[0]
    crop_point = camera[..., :1] * (joint[:2] + camera[..., 1:]) * camera.new_tensor([1.0, -1.0])
    pixel = transform_points(crop_point[..., None, :], torch.linalg.inv(observations.image_to_crop))[..., 0, :]
    homogeneous = torch.cat([pixel, torch.ones_like(pixel[..., :1])], -1)
    ray_camera = (torch.linalg.inv(observations.intrinsics) @ homogeneous[..., None]).squeeze(-1)
    depth = observations.image_to_crop[..., 0, 0] * observations.intrinsics[:, 0, 0] / camera[..., 0]
    to_world = observations.world_to_camera[:, :3, :3].transpose(-1, -2)
    centre = -(to_world @ observations.world_to_camera[:, :3, 3:]).squeeze(-1)
    ray = (to_world @ (ray_camera * depth[..., None])[..., None]).squeeze(-1)
    direction = torch.nn.functional.normalize(ray, dim=-1)
    along = direction[..., None] * direction[..., None, :]
    across = torch.eye(3, dtype=ray.dtype, device=ray.device) - along + 0.01 * along
    witness = across * valid[..., None, None]
    ridge = 1e-6 * torch.eye(3, dtype=ray.dtype, device=ray.device)
    position = torch.linalg.solve(witness.sum(1) + ridge, (witness @ (centre + ray)[..., None]).sum(1).squeeze(-1))
    seen_at_all = observations.valid.any(1, keepdim=True)
    return fill_invalid(root, seen_at_all), fill_invalid(position[:, None], seen_at_all)


def discount_hidden(head: HeadModel, observations: Observations, pose: Tensor, factor: float) -> Observations:
    """Lowers the weight of landmarks whose surface faces away from the camera, where detectors guess.

    The weight falls from 1 at a normal tilted 0.3 towards the camera to ``factor`` at one tilted 0.1 away.
    """
    embedding = head.embedding(observations.scheme)
    normals = vertex_normals(head.template, head.faces)[head.faces[embedding.face_index]]
    normals = torch.nn.functional.normalize((normals * embedding.barycentric[..., None]).sum(-2), dim=-1)
    facing = (normals @ rotvec_to_matrix(pose[..., :3]).transpose(-1, -2))[..., 2]
    share = ((facing + 0.1) / 0.4).clamp(0, 1)
    return replace(observations, weight=observations.weight * (factor + (1 - factor) * share))


def decode(unknown: dict[str, Tensor], head: HeadModel, observations: Observations) -> HeadParameters:
    """The unknowns as parameters per frame and view; the inverse of :func:`start_values`."""
    frames, views = observations.landmarks.shape[:2]
    expression = unknown["expression"].expand(frames, views, -1)
    joints = unknown["joints"].expand(frames, views, -1)
    if not observations.calibrated:
        pose = torch.cat([unknown["root"], joints], -1)
        camera = torch.cat([unknown["camera"][..., :1].exp(), unknown["camera"][..., 1:]], -1)
        return HeadParameters(unknown["shape"], expression, pose, camera)
    root = matrix_to_rotvec(view_rotation(observations.world_to_camera) @ rotvec_to_matrix(unknown["root"]))
    root_joint = head.joints(unknown["shape"], expression[:, :1])[..., 0, :]
    translation = world_to_view(unknown["position"][:, :, None], observations.world_to_camera)[..., 0, :] - root_joint
    camera = weak_from_pinhole(translation.detach(), observations.intrinsics, observations.image_to_crop)
    return HeadParameters(unknown["shape"], expression, torch.cat([root, joints], -1), camera, translation)


def optimise(
    moving: dict[str, Tensor],
    unknown: dict[str, Tensor],
    head: HeadModel,
    objective: Objective,
    config: DirectFittingSettings,
    steps: int,
) -> dict[str, float]:
    """Adam with a cosine decay on ``moving``, in place; returns the last value of every term."""
    rates = {"shape": config.lr_coefficients, "expression": config.lr_coefficients, "camera": 0.3 * config.lr_pose}
    rates["position"] = 0.1 * config.lr_pose
    start = unknown["expression"].clone()
    free = [n for n in moving if n != "joints" or head.articulated]
    mask = start.new_tensor([float(name in head.articulated) for name in JOINT_NAMES[1:]]).repeat_interleave(3)
    for name in free:
        unknown[name].requires_grad_(True)
    groups = [{"params": [unknown[n]], "lr": rates.get(n, config.lr_pose)} for n in free]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / max(steps, 1)))
    )
    terms: dict[str, Tensor] = {}
    for step in range(steps):
        adam.zero_grad(set_to_none=True)
        terms = objective.terms(decode(unknown, head, objective.observations), step)
        if "shape" in free:
            terms |= prior_terms(unknown, start, config)
        sum(terms.values()).backward()
        if "joints" in free:
            unknown["joints"].grad *= mask
        adam.step()
        schedule.step()
        if head.expression_bounded and "expression" in free:
            with torch.no_grad():
                unknown["expression"].clamp_(0, 1)
    for name in free:
        unknown[name].requires_grad_(False)
    return {name: value.item() for name, value in terms.items()}


def prior_terms(unknown: dict[str, Tensor], start: Tensor, config: DirectFittingSettings) -> dict[str, Tensor]:
    """Statistical regularisers (Eq. 5); expressions are drawn to where the detector's scores started them."""
    return {
        "shape_prior": config.shape_prior * mean_square(unknown["shape"]),
        "expression_prior": config.expression_prior * mean_square(unknown["expression"], start),
        "joint_prior": config.jaw_prior * mean_square(unknown["joints"]),
    }
