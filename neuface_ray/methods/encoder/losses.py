"""What the compact encoder is taught, and how well it knows it, measured on the head's surface and its projection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuface_ray.geometry.cameras import project_weak
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters

SCHEME = "mediapipe478"
_MM = 1000.0
_OUTER_EYES = (33, 263)


@dataclass
class FaceTargets:
    """The truth of B crops: shape (B, S), expression (B, E), pose (B, 15), camera (B, 3), landmarks (B, 478, 2) in crop
    coordinates and their visibility (B, 478)."""

    shape: Tensor
    expression: Tensor
    pose: Tensor
    camera: Tensor
    landmarks: Tensor
    visible: Tensor


def losses(head: HeadModel, predicted: HeadParameters, truth: FaceTargets, group: int) -> dict[str, Tensor]:
    """The terms of the loss.

    ``neutral``: expressionless faces; ``form``: the same over the inner face but for moves, turns and scale, which a single
    crop cannot tell; ``person``: both for the mean shape of each ``group`` consecutive crops, which show one person;
    ``expression``: displacements by the expression; ``posed``: everything turned, about the root; ``landmarks``:
    projections against the true camera's, hidden points count a third; ``gap``: apertures of lids and lips; ``parameters``.
    """
    face, weight = _face_weights(head)
    size = predicted.identity.shape[-1]
    shape_error = _displacement(head.shape_basis[face][..., :size], predicted.identity - truth.shape[:, :size])
    expression_error = _displacement(head.expression_basis[face], predicted.expression - truth.expression)
    form_basis = form(head)[..., :size]
    persons = (predicted.identity - truth.shape[:, :size]).unflatten(0, (-1, group)).mean(1)
    person_error = _displacement(head.shape_basis[face][..., :size], persons)
    person_form = _distance(_displacement(form_basis, persons)).mean()
    vertices = head(predicted.identity, predicted.expression, _joints_used(predicted.pose))
    true_vertices = _true_vertices(head, truth)
    posed = (vertices - true_vertices)[:, face]
    points = head.landmarks(vertices, SCHEME)
    error = _distance(project_weak(points, predicted.camera) - truth.landmarks)
    tied = 0.4 + 0.6 * head.embedding(SCHEME).weight
    share = tied * (0.33 + 0.67 * truth.visible.to(error.dtype))
    true_points = head.landmarks(true_vertices, SCHEME)
    return {
        "neutral": _MM * (_distance(shape_error) * weight).mean(),
        "form": _MM * _distance(_displacement(form_basis, predicted.identity - truth.shape[:, :size])).mean(),
        "person": _MM * ((_distance(person_error) * weight).mean() + 4 * person_form),
        "expression": _MM * (_distance(expression_error) * weight).mean(),
        "posed": _MM * (_distance(posed) * weight).mean(),
        "landmarks": 100 * (error * share).sum() / share.sum(),
        "gap": _MM * (_gaps(points) - _gaps(true_points)).abs().mean(),
        "parameters": _parameters(predicted, truth, size),
    }


def _parameters(predicted: HeadParameters, truth: FaceTargets, size: int) -> Tensor:
    shape = (predicted.identity - truth.shape[:, :size]).square().mean()
    expression = (predicted.expression - truth.expression).abs().mean()
    turned = rotvec_to_matrix(predicted.pose[:, :3]) - rotvec_to_matrix(truth.pose[:, :3])
    scale = (predicted.camera[:, 0] / truth.camera[:, 0]).log().abs().mean()
    return 0.3 * shape + 3.0 * expression + 2.0 * turned.abs().mean() * 3 + 2.0 * scale


@torch.no_grad()
def accuracy(head: HeadModel, predicted: HeadParameters, truth: FaceTargets) -> dict[str, Tensor]:
    """Errors (B,) of each crop: ``nme`` of the landmarks in percent of the outer-eye distance in 3D times the scale;
    ``form_mm`` of the expressionless inner face but for place, turn and scale, ``mean_head_form_mm`` the same for the mean
    head; ``neutral_mm`` and ``mean_head_mm`` of the expressionless face as it stands in the head frame; ``expression_mm``;
    ``rotation_deg``."""
    face, weight = _face_weights(head)
    size = predicted.identity.shape[-1]
    vertices = head(predicted.identity, predicted.expression, _joints_used(predicted.pose))
    true_vertices = _true_vertices(head, truth)
    error = _distance(project_weak(head.landmarks(vertices, SCHEME), predicted.camera) - truth.landmarks).mean(-1)
    points = head.landmarks(true_vertices, SCHEME)
    eyes = (points[:, _OUTER_EYES[0]] - points[:, _OUTER_EYES[1]]).norm(dim=-1) * truth.camera[:, 0]
    basis, forms = head.shape_basis[face], form(head)
    true_neutral, true_form = _displacement(basis, truth.shape), _displacement(forms, truth.shape)
    neutral = _displacement(basis[..., :size], predicted.identity) - true_neutral
    form_error = _displacement(forms[..., :size], predicted.identity) - true_form
    expression = _displacement(head.expression_basis[face], predicted.expression - truth.expression)
    turned = rotvec_to_matrix(predicted.pose[:, :3]).transpose(-1, -2) @ rotvec_to_matrix(truth.pose[:, :3])
    angle = ((turned.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).acos()
    return {
        "nme": 100 * error / eyes,
        "form_mm": _MM * _distance(form_error).mean(-1),
        "mean_head_form_mm": _MM * _distance(true_form).mean(-1),
        "neutral_mm": _MM * (_distance(neutral) * weight).mean(-1),
        "mean_head_mm": _MM * (_distance(true_neutral) * weight).mean(-1),
        "expression_mm": _MM * (_distance(expression) * weight).mean(-1),
        "rotation_deg": torch.rad2deg(angle),
    }


def _joints_used(pose: Tensor) -> Tensor:
    """The root rotation alone (B, 3) where the other joints are at rest, which saves the skinning."""
    return pose if pose[:, 3:].any() else pose[:, :3]


def _true_vertices(head: HeadModel, truth: FaceTargets) -> Tensor:
    with torch.no_grad():
        return head(truth.shape, truth.expression, _joints_used(truth.pose))


def _face_weights(head: HeadModel) -> tuple[Tensor, Tensor]:
    """The face's vertices, and weights of mean 1 that count the inner face three times."""
    regions = head.regions
    face = regions["face"]
    weight = torch.ones(head.n_vertices, device=face.device)
    weight[regions.get("inner_face", face)] = 3.0
    weight = weight[face]
    return face, weight / weight.mean()


def form(head: HeadModel) -> Tensor:
    """The shape basis (N, 3, S) of the inner face less what moves, small turns and scale of the template can imitate."""
    inner = head.regions.get("inner_face", head.regions["face"])
    points = head.template[inner] - head.template[inner].mean(0)
    axes = torch.eye(3, dtype=points.dtype, device=points.device)
    moves = [axis.expand_as(points) for axis in axes]
    turns = [torch.linalg.cross(axis.expand_as(points), points) for axis in axes]
    similarity = torch.linalg.qr(torch.stack([*moves, *turns, points]).flatten(1).T)[0]
    basis = head.shape_basis[inner].flatten(0, 1)
    return (basis - similarity @ (similarity.T @ basis)).unflatten(0, points.shape)


def _displacement(basis: Tensor, coefficients: Tensor) -> Tensor:
    """Displacements (B, N, 3) by a basis (N, 3, K)."""
    return torch.nn.functional.linear(coefficients, basis.flatten(0, 1)).unflatten(-1, basis.shape[:2])


def _distance(vectors: Tensor) -> Tensor:
    """Lengths (...) of vectors (..., C), smooth at zero."""
    return (vectors.square().sum(-1) + 1e-10).sqrt()


_LID_AND_LIP_PAIRS = ((159, 145), (158, 153), (386, 374), (385, 380), (13, 14), (82, 87), (312, 317), (0, 17), (61, 291))


def _gaps(points: Tensor) -> Tensor:
    """Apertures (B, 9) of the eyes, the lips and the mouth's corners from MediaPipe's points (B, 478, 3), metres."""
    first, second = zip(*_LID_AND_LIP_PAIRS, strict=True)
    return _distance(points[:, list(first)] - points[:, list(second)])
