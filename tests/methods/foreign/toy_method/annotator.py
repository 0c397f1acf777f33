"""Annotation by the toy."""

from __future__ import annotations

import torch

from neuface_ray.errors import UsageError
from neuface_ray.fitting.observations import Observations
from neuface_ray.geometry.rotations import matrix_to_rotvec
from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.direct_fitting.fit import initial_pose
from neuface_ray.networks.weight_file import load_network
from neuface_ray.types import POSE_SIZE, FaceClip, MeshSequence
from neuface_ray.uri import content_hash
from toy_method.network import ToyNetwork
from toy_method.settings import ToySettings


class Toy(Annotator):
    """Identity from the network, orientation and camera in closed form from the landmarks, no expression."""

    name = "toy"

    def __init__(self, head: HeadModel, settings: ToySettings, device: str = "auto"):
        super().__init__(head, device)
        if settings.weights is None:
            raise UsageError("annotator.toy.weights is not set; `python jobs/train.py recipe=toy` makes such a file")
        self.network, _ = load_network(ToyNetwork, settings.weights, "annotator.toy.weights")
        self.network.to(self.device)
        self.weights_hash = content_hash(settings.weights)

    @torch.no_grad()
    def annotate(self, clip: FaceClip) -> MeshSequence:
        """One identity for the clip, and where its head lies in each frame."""
        frames, views = clip.valid.shape
        pictures = torch.from_numpy(clip.crops).to(self.device).flatten(0, 1).float() / 255
        shape = self.network(pictures).mean(0).expand(1, 1, -1)
        rotation, camera = initial_pose(self.head, Observations.of(clip, self.head, self.device))
        pose = torch.cat([matrix_to_rotvec(rotation), rotation.new_zeros(frames, views, POSE_SIZE - 3)], -1)
        expression = rotation.new_zeros(1, 1, self.head.n_expression)
        return self.sequence(clip, HeadParameters(shape, expression, pose.nan_to_num(), camera.nan_to_num()))
