"""What a fit is judged by: decoded head parameters against everything that was observed of a clip.

Direct fitting and NeuFace minimise this one function; they differ in what moves, the parameters themselves or the weights
of an encoder that predicts them (NeuFace, Eq. 1).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from neuface_ray.fitting.losses import acceleration, landmark_l1, multiview_consistency, temporal_orientation
from neuface_ray.fitting.observations import Observations
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.fitting.temporal import smoothed_quaternions
from neuface_ray.geometry.cameras import project_pinhole, project_weak, transform_points
from neuface_ray.geometry.rotations import rotvec_to_quaternion
from neuface_ray.geometry.visibility import fuse_views, view_confidence, view_weights
from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.heads.restrict import landmark_vertices, restrict


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Args:
        parameters: of shape (F, V, .). terms: the last value of every weighted term of the objective, priors included.
        reasons: codes of what went wrong without being fatal, such as ``diverged``.
    """

    parameters: HeadParameters
    terms: dict[str, float]
    reasons: tuple[str, ...] = ()


class Objective:
    """Evaluates the three data terms for one clip.

    Only the vertices that landmarks touch are computed for the landmark term, and only the face region for the view term.
    """

    def __init__(self, head: HeadModel, observations: Observations, config: ObjectiveSettings):
        self.observations, self.config = observations, config
        self.landmark_head = restrict(head, landmark_vertices(head, observations.scheme))
        self.face_head = restrict(head, head.regions["face"]) if observations.landmarks.shape[1] > 1 else None

    def restricted_to(self, frames: range) -> Objective:
        """The same objective for some consecutive frames."""
        if len(frames) == self.observations.landmarks.shape[0]:
            return self
        part = copy.copy(self)
        part.observations = self.observations.of_frames(frames)
        return part

    def project(self, parameters: HeadParameters) -> Tensor:
        """Landmarks of the heads in crop coordinates, (F, V, L, 2)."""
        pose = self._moving(parameters.pose)
        vertices = self.landmark_head(parameters.identity, parameters.expression, pose)
        points = self.landmark_head.landmarks(vertices, self.observations.scheme, pose=pose)
        if parameters.translation is None:
            return project_weak(points, parameters.camera)
        pixels = project_pinhole(points, parameters.translation, self.observations.intrinsics)
        return transform_points(pixels, self.observations.image_to_crop)

    def terms(self, parameters: HeadParameters, step: int = 0) -> dict[str, Tensor]:
        """The weighted terms by name; their sum is the objective. ``step`` chooses the frames of the view term."""
        observations, config = self.observations, self.config
        terms = {
            "landmark": config.landmark * landmark_l1(self.project(parameters), observations.landmarks, observations.weight)
        }
        if config.temporal > 0 and observations.landmarks.shape[0] > 1:
            quaternion = rotvec_to_quaternion(parameters.pose[..., :3])
            target = smoothed_quaternions(quaternion, observations.valid, config.fidelity, config.temporal_order)
            weight = config.temporal * (
                observations.frame_rate_ratio**2 if (config.fidelity, config.temporal_order) == ("paper", 2) else 1.0
            )
            terms["temporal"] = weight * temporal_orientation(quaternion, target, observations.valid)
        if config.smoothness > 0:
            terms["smoothness"] = (
                config.smoothness * observations.frame_rate_ratio**2 * acceleration(parameters.expression, observations.valid)
            )
        if config.view > 0 and self.face_head is not None:
            terms["view"] = config.view * self._view_term(parameters, step)
        return terms

    def _view_term(self, parameters: HeadParameters, step: int) -> Tensor:
        """Eq. 4; in paper form a shared identity gets no gradient, which could only shrink the head and so all distances."""
        frames, paper = self._frames_of_step(step), self.config.fidelity == "paper"
        shape = parameters.identity if parameters.identity.shape[0] == 1 else parameters.identity[frames]
        if paper and parameters.identity.shape[:2] == (1, 1):
            shape = shape.detach()
        expression, pose = parameters.expression[frames], self._moving(parameters.pose[frames])
        root_free = torch.cat([torch.zeros_like(pose[..., :3]), pose[..., 3:]], -1)
        canonical = self.face_head(shape, expression, root_free)
        valid = self.observations.valid[frames]
        with torch.no_grad():
            posed = self.face_head(shape, expression, pose)
            weights = view_weights(view_confidence(posed, self.face_head.faces), valid)
        target = fuse_views(canonical, weights)
        if paper:
            target = target.detach()
        return multiview_consistency(canonical, target, valid)

    def _moving(self, pose: Tensor) -> Tensor:
        """The root alone where no other joint can turn, which spares the skinning."""
        return pose if self.landmark_head.articulated else pose[..., :3]

    def _frames_of_step(self, step: int) -> Tensor:
        """The random frames of a step, the same for every run."""
        frames = self.observations.landmarks.shape[0]
        count = min(self.config.view_frames, frames)
        generator = torch.Generator().manual_seed(step)
        return torch.randperm(frames, generator=generator)[:count].sort().values.to(self.observations.landmarks.device)
