"""Annotation by learned vertex descent; what LVD and GLVD share is here."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuface_ray.fitting.closed_form import scaled_orthography
from neuface_ray.geometry.cameras import nearest_weak_camera, view_rotation
from neuface_ray.geometry.rotations import mean_rotation
from neuface_ray.heads import HeadModel
from neuface_ray.media.crop import resize_crops
from neuface_ray.methods.heatmap.keypoints import image_keypoints
from neuface_ray.methods.lvd.network import CANONICAL_SCALE, LVD, Descent, apply_similarity, compose, invert
from neuface_ray.methods.lvd.settings import DescentSettings
from neuface_ray.methods.mesh_regressor import MeshRegressor, Reconstruction
from neuface_ray.types import FaceClip


class VertexDescent(MeshRegressor):
    """Runs an `LVD` or a `GLVD` network over the crops of a clip."""

    descent: type[LVD]

    def __init__(self, head: HeadModel, config: DescentSettings | None = None, device: str = "auto"):
        self.config = config or DescentSettings()
        path = self.config.weights or Path(str(files("neuface_ray"))) / "assets" / f"{self.name}.safetensors"
        super().__init__(head, self.descent, path, f"annotator.{self.name}.weights", device)

    @torch.no_grad()
    def reconstruct(self, clip: FaceClip) -> Reconstruction:
        """Run the network; ``last_step`` is the mean length of the last update, large where the descent has not settled."""
        frames, views = clip.valid.shape
        together = self.config.fuse_views and views > 1
        images, placed, hints, used = self._inputs(clip)
        if not together:
            images, placed, hints, used = (x.flatten(0, 1)[:, None] for x in (images, placed, hints, used))
        parts = [
            self._descend(images[i], placed[i], hints[i], used[i]) for i in torch.arange(len(used)).split(self.config.batch)
        ]
        vertices, last = (torch.cat(part) for part in zip(*parts, strict=True))
        return Reconstruction(vertices.view(frames, views, -1, 3), {"last_step": last.view(frames, views)})

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

    def _descend(self, images: Tensor, placed: Tensor, hints: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (B, N, V, 3) in the views' frames, and last step (B, N), of instants in N views."""
        descent, to_view, usable = self._run(images, placed, hints, valid, self.config.steps)
        last = (descent.trajectory[-1] - descent.trajectory[-2]).norm(dim=-1).mean(-1)
        return apply_similarity(to_view, descent.vertices[:, None]), last[:, None].expand(usable.shape)

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
