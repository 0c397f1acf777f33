"""Changes crops and their truth together: turned, scaled, shifted, recoloured, blurred, noisy, covered."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from neuface_ray.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from neuface_ray.heads import HeadModel
from neuface_ray.methods.augment import move_images, move_points, planar_motion
from neuface_ray.methods.encoder.losses import FaceTargets


def augment(head: HeadModel, crops: Tensor, truth: FaceTargets) -> tuple[Tensor, FaceTargets]:
    """Random versions of crops (B, 3, S, S) in [0, 1] and their truth, by torch's global generator."""
    count = len(crops)
    angle = torch.randn(count, device=crops.device).clamp(-2, 2) * math.radians(7.0)
    zoom = torch.exp(torch.randn(count, device=crops.device).clamp(-2, 2) * 0.06)
    shift = torch.randn(count, 2, device=crops.device).clamp(-2, 2) * 0.05
    motion = planar_motion(-angle, zoom, shift * shift.new_tensor([1.0, -1.0]))
    crops = covered(recoloured(move_images(crops, motion, "border")))
    return crops, move_truth(head, truth, motion)


def move_truth(head: HeadModel, truth: FaceTargets, motion: Tensor) -> FaceTargets:
    """The truth of crops whose views were moved by ``motion`` (B, 3, 4), which turns the head about the viewing axis."""
    zoom = motion[:, 2, 2]
    rotation = motion[..., :3] / zoom[:, None, None] @ rotvec_to_matrix(truth.pose[:, :3])
    root = head.joints(truth.shape, truth.expression)[:, 0, :2]
    scale, shift = truth.camera[:, :1], truth.camera[:, 1:]
    seen = scale * (root + shift)
    moved = (motion[:, :2, :2] @ seen[..., None])[..., 0] + motion[:, :2, 3]
    scale = scale * zoom[:, None]
    camera = torch.cat([scale, moved / scale - root], -1)
    pose = torch.cat([matrix_to_rotvec(rotation), truth.pose[:, 3:]], -1)
    return replace(truth, pose=pose, camera=camera, landmarks=move_points(truth.landmarks, motion))


def recoloured(crops: Tensor) -> Tensor:
    """Random gain by channel, gamma, contrast, blur and noise."""
    count, device = len(crops), crops.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, device=device)

    some = (torch.rand(count, 1, 1, 1, device=device) < 0.25).to(crops.dtype)
    soft = functional.avg_pool2d(functional.pad(crops, (1, 1, 1, 1), mode="replicate"), 3, 1)
    crops = crops + some * (soft - crops)
    crops = crops.clamp(1e-3, 1) ** torch.exp(0.15 * normal(1, 1, 1))
    crops = crops * torch.exp(0.12 * normal(1, 1, 1) + 0.05 * normal(3, 1, 1))
    mean = crops.mean((1, 2, 3), keepdim=True)
    crops = mean + torch.exp(0.12 * normal(1, 1, 1)) * (crops - mean)
    level = 0.015 * torch.rand(count, 1, 1, 1, device=device)
    return (crops + level * torch.randn_like(crops)).clamp(0, 1)


def covered(crops: Tensor, share: float = 0.2) -> Tensor:
    """A grey or coloured box over some of the crops."""
    crops = crops.clone()
    size = crops.shape[-1]
    for index in torch.nonzero(torch.rand(len(crops)) < share)[:, 0].tolist():
        height, width = (torch.rand(2) * 0.35 + 0.08).mul(size).int().tolist()
        top, left = (int(torch.rand(()) * (size - extent)) for extent in (height, width))
        crops[index, :, top : top + height, left : left + width] = torch.rand(3, 1, 1, device=crops.device)
    return crops
