"""Clips whose truth is known: heads moved smoothly and projected, no pictures."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuface_ray.geometry.cameras import project_pinhole, project_weak, transform_points, view_rotation, world_to_view
from neuface_ray.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from neuface_ray.heads import HeadModel
from neuface_ray.types import Camera, FaceClip, Segment, View

SCHEME = "mediapipe478"
IMAGE = 640


@dataclass(frozen=True)
class Truth:
    """Parameters that made a clip, (F, V, .), and its canonical vertices (F, N, 3)."""

    shape: Tensor
    expression: Tensor
    pose: Tensor
    canonical: Tensor


def look_at_head(azimuth: float, distance: float = 1.2) -> Camera:
    """A camera on a circle round the head that looks at its middle, f = 1000 px."""
    turn = rotvec_to_matrix(torch.tensor([0.0, -azimuth, 0.0])).numpy()
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ turn
    extrinsics[2, 3] = distance
    intrinsics = np.array([[1000.0, 0, IMAGE / 2], [0, 1000.0, IMAGE / 2], [0, 0, 1]])
    return Camera(intrinsics, extrinsics)


def make_clip(head: HeadModel, frames: int, azimuths: tuple[float, ...], calibrated: bool, seed: int = 0, noise: float = 0.0):
    """A clip and its truth: one identity, smooth expressions and head motion, seen from ``azimuths`` (radians)."""
    generator = torch.Generator().manual_seed(seed)
    views = len(azimuths)
    shape = 0.8 * torch.randn(1, 1, head.n_shape, generator=generator)
    phase = 2 * torch.pi * torch.rand(head.n_expression, generator=generator)
    strength = 0.5 * torch.rand(head.n_expression, generator=generator) ** 4
    time = torch.arange(frames)[:, None, None] / 25
    expression = strength * (0.5 + 0.5 * torch.sin(4 * time + phase))
    root = torch.cat([0.1 * torch.sin(2 * time), 0.25 * torch.sin(3 * time), 0.05 * torch.cos(2 * time)], -1)
    cameras = [look_at_head(azimuth) for azimuth in azimuths]
    world_to_camera = torch.tensor(np.stack([c.world_to_camera for c in cameras]), dtype=torch.float32)
    intrinsics = torch.tensor(np.stack([c.intrinsics for c in cameras]), dtype=torch.float32)
    view_root = matrix_to_rotvec(view_rotation(world_to_camera) @ rotvec_to_matrix(root))
    pose = torch.cat([view_root, torch.zeros(frames, views, 12)], -1)
    points = head.landmarks(head(shape, expression, pose), SCHEME)
    joint = head.joints(shape, expression)[..., 0, :]
    if calibrated:
        translation = world_to_view(joint[..., None, :], world_to_camera)[..., 0, :] - joint
        pixels = project_pinhole(points, translation, intrinsics)
    else:
        camera = torch.tensor([7.0, 0.01, -0.02])
        pixels = (project_weak(points, camera) + 1) * IMAGE / 2
    crop_to_image = np.zeros((frames, views, 3, 3))
    low, high = pixels.amin(-2).numpy(), pixels.amax(-2).numpy()
    half = 0.7 * (high - low).mean(-1)
    crop_to_image[..., 0, 0] = crop_to_image[..., 1, 1] = half
    crop_to_image[..., :2, 2], crop_to_image[..., 2, 2] = (low + high) / 2, 1
    crop = transform_points(pixels, torch.linalg.inv(torch.tensor(crop_to_image, dtype=torch.float32)))
    crop = crop + noise * torch.randn(crop.shape, generator=generator)
    named = tuple(View(f"v{i}", f"v{i}.mp4", cameras[i] if calibrated else None) for i in range(views))
    clip = FaceClip(
        clip_id="clip",
        segment=Segment("segment", "sequence", named, 0, frames, 0, frames),
        track=0,
        crops=np.zeros((frames, views, 3, 8, 8), np.uint8),
        landmarks=crop.numpy(),
        landmark_confidence=np.ones(crop.shape[:-1], np.float32),
        landmark_scheme=SCHEME,
        crop_to_image=crop_to_image,
        valid=np.ones((frames, views), bool),
        core=np.ones(frames, bool),
        frame_index=np.arange(frames),
        source_frame=np.tile(np.arange(frames)[:, None], (1, views)),
        timestamps_s=np.arange(frames) / 25,
        fps=25.0,
        image_size=np.full((views, 2), IMAGE),
        face_px=np.full((frames, views), 200.0, np.float32),
        blur=np.full((frames, views), 100.0, np.float32),
    )
    canonical = head(shape, expression, torch.zeros(frames, 1, 15))[:, 0]
    return clip, Truth(shape, expression.expand(frames, views, -1), pose, canonical)
