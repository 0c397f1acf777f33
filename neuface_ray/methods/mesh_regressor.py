"""Base of the annotators whose network gives vertices, from which head pose, camera and scale are estimated.

A weak-perspective picture does not tell the size of a head. The mesh is therefore scaled so that its face is as large as
that of the head model's template, and head pose and camera are those of the template turned onto it.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from neuface_ray.errors import ModelFileError
from neuface_ray.fitting.closed_form import fill_invalid
from neuface_ray.geometry.alignment import Alignment, similarity
from neuface_ray.geometry.rotations import matrix_to_rotvec
from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.annotator import Annotator
from neuface_ray.networks.weight_file import load_network
from neuface_ray.types import POSE_SIZE, FaceClip, MeshSequence
from neuface_ray.uri import content_hash

AVERAGE_SCALE = 8.0
"""Half crops in a metre in an average picture."""


@dataclass(frozen=True)
class Reconstruction:
    """Meshes of a clip as a network sees them, per frame and view.

    Args:
        vertices: (F, V, N, 3) of the whole head in each view's frame (x right, y up, z towards the viewer), half crops.
        metrics: by name, (F, V) numbers whose means over valid frames and views are stored.
    """

    vertices: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class MeshRegressor(Annotator):
    """Poses, scales and checks the meshes of a network; a method says how it is run.

    Args:
        network: its class. path: its weight file. key: configuration key that names the file.

    Raises:
        ModelFileError: the file is missing, damaged, or was made for another head model.
    """

    def __init__(self, head: HeadModel, network: type[nn.Module], path: str | Path, key: str, device: str = "auto"):
        super().__init__(head, device)
        self.network, facts = load_network(network, path, key)
        self.weights_hash = content_hash(str(path))
        self.training = facts.get("config_hash")
        self.network.to(self.device)
        if facts.get("head_model") != head.id:
            raise ModelFileError(
                f"{key} was trained for head model {facts.get('head_model')}, but the head is {head.id}; "
                f"set head or {key} so that they agree"
            )
        self.crop_size = self.network.crop_size
        self.face = self.head.regions["face"]
        self.resting = AVERAGE_SCALE * self.head.template

    @abstractmethod
    def reconstruct(self, clip: FaceClip) -> Reconstruction:
        """Run the network; what stands at frames and views without a face is not used."""

    @torch.no_grad()
    def annotate(self, clip: FaceClip) -> MeshSequence:
        """One mesh for every valid frame and view; the others, and those that diverged, are interpolated in time."""
        started = time.perf_counter()
        found = self.reconstruct(clip)
        valid = torch.as_tensor(clip.valid, device=self.device)
        finite = found.vertices.isfinite().all(-1).all(-1) | ~valid
        vertices = torch.where((valid & finite)[..., None, None], found.vertices, self.resting)
        template = self.head.template[self.face].expand(*valid.shape, -1, -1)
        aligned = similarity(template, vertices[:, :, self.face])
        posed, parameters = self._posed(vertices, aligned, valid & finite)
        return self.sequence(
            clip,
            parameters,
            vertices=posed.float().cpu().numpy(),
            reasons=() if bool(finite.all()) else ("diverged",),
            metrics={name: values[valid].mean().item() for name, values in found.metrics.items() if bool(valid.any())},
            seconds={"fit": time.perf_counter() - started},
            provenance={"weights_sha256": self.weights_hash, "training": self.training},
        )

    def _posed(self, vertices: Tensor, aligned: Alignment, valid: Tensor) -> tuple[Tensor, HeadParameters]:
        """Vertices in metres as the head model poses them, and the pose and camera that put them back on the crop."""
        root = self.head.template_joints[0]
        rotation, scale = aligned.rotation, aligned.scale[..., None]
        shift = aligned.translation / scale - root + rotation @ root
        posed = vertices / scale[..., None] - shift[..., None, :]
        pose = torch.cat([matrix_to_rotvec(rotation), rotation.new_zeros(*valid.shape, POSE_SIZE - 3)], -1)
        camera = torch.cat([scale, shift[..., :2]], -1)
        posed, pose, camera = (fill_invalid(x.flatten(2), valid) for x in (posed, pose, camera))
        nothing = camera.new_zeros(*valid.shape, 0)
        return posed.unflatten(2, (-1, 3)), HeadParameters(nothing, nothing, pose, camera)
