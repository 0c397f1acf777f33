"""Annotation by learned vertex descent: LVD and GLVD give vertices, from which head pose, camera and scale are estimated.

A weak-perspective picture does not tell the size of a head. The mesh is therefore scaled so that its face is as large as
that of the head model's template, and head pose and camera are those of the template turned onto it.
"""

from __future__ import annotations

import time
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuface_ray.errors import ModelFileError
from neuface_ray.fitting.pose import fill_invalid, scaled_orthography
from neuface_ray.geometry.alignment import Alignment, similarity
from neuface_ray.geometry.cameras import nearest_weak_camera, view_rotation
from neuface_ray.geometry.rotations import matrix_to_rotvec, mean_rotation
from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.media.crop import resize_crops
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.heatmap.keypoints import image_keypoints
from neuface_ray.methods.lvd.network import CANONICAL_SCALE, LVD, Descent, apply_similarity, compose, invert
from neuface_ray.methods.lvd.settings import DescentSettings
from neuface_ray.networks.weight_file import load_network
from neuface_ray.types import POSE_SIZE, FaceClip, MeshSequence
from neuface_ray.uri import content_hash

AVERAGE_SCALE = 8.0


class Reconstruction(NamedTuple):
    """Meshes of a clip as the network sees them, per frame and view.

    Args:
        vertices: (F, V, N, 3) in each view's frame, units of half a crop. keypoints: (F, V, K, 3) likewise, or None.
        last_step: (F, V) mean length of the last update, in the same unit; large where the descent has not settled.
    """

    vertices: Tensor
    keypoints: Tensor | None
    last_step: Tensor


class VertexDescent(Annotator):
    """Runs an `LVD` or a `GLVD` network over the crops of a clip."""

    descent: type[LVD]

    def __init__(self, head: HeadModel, config: DescentSettings | None = None, device: str = "auto"):
        super().__init__(head, device)
        self.config, name = config or DescentSettings(), self.name
        path = self.config.weights or Path(str(files("neuface_ray"))) / "assets" / f"{name}.safetensors"
        self.network, facts = load_network(self.descent, path, f"annotator.{name}.weights")
        self.weights_hash = content_hash(str(path))
        self.training = facts.get("config_hash")
        self.network.to(self.device)
        if facts.get("head_model") != head.id:
            raise ModelFileError(
                f"annotator.{name}.weights was trained for head model {facts.get('head_model')}, but the head is {head.id}; "
                f"set head or annotator.{name}.weights so that they agree"
            )
        self.crop_size = self.network.crop_size
        self.face = self.head.regions["face"]
        self.resting = AVERAGE_SCALE * self.head.template

    @torch.no_grad()
    def annotate(self, clip: FaceClip) -> MeshSequence:
        """One mesh for every valid frame and view; the others, and those that diverged, are interpolated in time."""
        started = time.perf_counter()
        found = self.reconstruct(clip)
        valid = torch.as_tensor(clip.valid, device=self.device)
        finite = found.vertices.isfinite().all(-1).all(-1)
        found = found._replace(vertices=torch.where(finite[..., None, None], found.vertices, self.resting))
        template = self.head.template[self.face].expand(*valid.shape, -1, -1)
        aligned = similarity(template, found.vertices[:, :, self.face])
        vertices, parameters = self._posed(found.vertices, aligned, valid & finite)
        last = found.last_step[valid]
        return self.sequence(
            clip,
            parameters,
            vertices=vertices.float().cpu().numpy(),
            reasons=() if bool(finite.all()) else ("diverged",),
            metrics={"last_step": last.mean().item()} if len(last) else {},
            seconds={"fit": time.perf_counter() - started},
            provenance={"weights_sha256": self.weights_hash, "training": self.training},
        )

    @torch.no_grad()
    def reconstruct(self, clip: FaceClip) -> Reconstruction:
        """Runs the network; frames and views without a face get the template at the centre of the crop."""
        frames, views = clip.valid.shape
        together = self.config.fuse_views and views > 1
        images, placed, hints, valid = self._inputs(clip)
        if not together:
            images, placed, hints, used = (x.flatten(0, 1)[:, None] for x in (images, placed, hints, valid))
        else:
            used = valid
        parts = [
            self._descend(images[i], placed[i], hints[i], used[i]) for i in torch.arange(len(used)).split(self.config.batch)
        ]
        vertices, keypoints, last = (None if p[0] is None else torch.cat(p) for p in zip(*parts, strict=True))
        if not together:
            vertices, last = vertices.view(frames, views, -1, 3), last.view(frames, views)
            keypoints = None if keypoints is None else keypoints.view(frames, views, -1, 3)
        vertices = torch.where(valid[..., None, None], vertices, self.resting)
        return Reconstruction(vertices, keypoints, last)

    @torch.no_grad()
    def watch(self, clip: FaceClip, frame: int, steps: int) -> tuple[Descent, Tensor]:
        """The whole descent of one instant from all its views, and the way (N, 3, 4) from its reference frame to each view."""
        descent, to_view, _ = self._run(*(values[frame : frame + 1] for values in self._inputs(clip)), steps)
        return descent, to_view[0]

    def _inputs(self, clip: FaceClip) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crops, places of the resting head, 2D keypoints and validity, each (F, V, ...)."""
        placed = place_heads(clip, self.head, self.device)
        hints = torch.from_numpy(image_keypoints(clip.landmarks, getattr(self.network, "n_keypoints", 18))).to(self.device)
        images = torch.from_numpy(resize_crops(clip.crops, self.crop_size))
        return images, placed, hints, torch.as_tensor(clip.valid, device=self.device)

    def _descend(self, images: Tensor, placed: Tensor, hints: Tensor, valid: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Vertices (B, N, V, 3), keypoints and last step (B, N) of instants in N views."""
        descent, to_view, usable = self._run(images, placed, hints, valid, self.config.steps)
        last = (descent.trajectory[-1] - descent.trajectory[-2]).norm(dim=-1).mean(-1)
        keypoints = None if descent.keypoints is None else apply_similarity(to_view, descent.keypoints[:, None])
        return apply_similarity(to_view, descent.vertices[:, None]), keypoints, last[:, None].expand(usable.shape)

    def _run(self, images: Tensor, placed: Tensor, hints: Tensor, valid: Tensor, steps: int) -> tuple[Descent, Tensor, Tensor]:
        """Descents, the ways (B, N, 3, 4) from their reference frames to the views, and which views were used (B, N)."""
        usable = valid | ~valid.any(1, keepdim=True)
        to_view = compose(placed, invert(self._reference(placed, usable))[:, None])
        more = {"landmarks": hints} if getattr(self.network, "heatmaps", "none") == "landmarks" else {}
        scene = self.network.scene(images.to(self.device).float() / 255, to_view, usable, **more)
        return self.network.descend(scene, steps), to_view, usable

    def _reference(self, placed: Tensor, usable: Tensor) -> Tensor:
        """(B, 3, 4) from the head frame to the reference frame: that of the most frontal view, or the canonical one."""
        if self.network.vertex_field.canonical:
            return CANONICAL_SCALE * torch.eye(3, 4, device=placed.device).expand(len(placed), 3, 4)
        frontal = placed[..., 2, 2] / placed[..., 2, :3].norm(dim=-1)
        best = torch.where(usable, frontal, torch.full_like(frontal, -2.0)).argmax(1)
        return placed[torch.arange(len(placed), device=placed.device), best]

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


class Lvd(VertexDescent):
    """Learned Vertex Descent."""

    name, descent = "lvd", LVD


def place_heads(clip: FaceClip, head: HeadModel, device: torch.device | str = "cpu") -> Tensor:
    """Where the template must lie to match the landmarks: (F, V, 3, 4) from the head frame (metres) to each view's frame.

    By scaled orthography in each view; where all views are calibrated, the head's rotation is the mean over the views.
    """
    embedding = head.embedding(clip.landmark_scheme)
    points = embedding.points(head.template, head.faces).to(device)
    observed = torch.as_tensor(np.nan_to_num(clip.landmarks), dtype=torch.float32, device=device)
    weight = torch.as_tensor(clip.landmark_confidence, dtype=torch.float32, device=device) * embedding.weight.to(device)
    weight = weight * embedding.valid.to(device) * torch.as_tensor(clip.valid, device=device)[..., None]
    rotation, camera = scaled_orthography(points, observed, weight)
    cameras = [view.camera for view in clip.segment.views]
    if len(cameras) > 1 and all(camera is not None for camera in cameras):
        extrinsics = torch.as_tensor(np.stack([c.world_to_camera for c in cameras]), dtype=torch.float32, device=device)
        views = view_rotation(extrinsics)
        rotation = views @ mean_rotation(views.transpose(-1, -2) @ rotation, weight.sum(-1))[:, None]
        turned = points @ rotation.transpose(-1, -2)
        found = nearest_weak_camera(turned, observed, weight)
        camera = torch.where((weight.sum(-1, keepdim=True) > 0) & (found[..., :1] > 0), found, camera)
    root = head.template_joints[0].to(device)
    depth = (root - (rotation @ root[:, None])[..., 0])[..., 2:]  # the head turns about its root, as in training
    shift = torch.cat([camera[..., 1:], depth], -1)
    return camera[..., :1, None] * torch.cat([rotation, shift[..., None]], -1)
