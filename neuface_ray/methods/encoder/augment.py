"""Changes crops and their truth together: turned, scaled, shifted, recoloured, blurred, noisy, covered."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from neuface_ray.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from neuface_ray.heads import HeadModel
from neuface_ray.methods.encoder.losses import FaceTargets


def augment(head: HeadModel, crops: Tensor, truth: FaceTargets) -> tuple[Tensor, FaceTargets]:
    """Random versions of crops (B, 3, S, S) in [0, 1] and their truth."""
    count = len(crops)
    angle = torch.randn(count, device=crops.device).clamp(-2, 2) * math.radians(7.0)
    zoom = torch.exp(torch.randn(count, device=crops.device).clamp(-2, 2) * 0.06)
    shift = torch.randn(count, 2, device=crops.device).clamp(-2, 2) * 0.05
    crops = covered(recoloured(move_pixels(crops, angle, zoom, shift)))
    return crops, move_truth(head, truth, angle, zoom, shift)


def move_pixels(crops: Tensor, angle: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Turns crops clockwise (y is down) by angles (B,), radians, scales them by zoom (B,), then shifts by (B, 2) crop units."""
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    inverse = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    matrix = torch.cat([inverse, -(inverse @ shift[..., None])], -1)
    grid = functional.affine_grid(matrix, list(crops.shape), align_corners=False)
    return functional.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)


def move_truth(head: HeadModel, truth: FaceTargets, angle: Tensor, zoom: Tensor, shift: Tensor) -> FaceTargets:
    """The truth of crops moved by ``move_pixels``: turning the picture turns the head about the viewing axis."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # acts on crop coordinates, y down
    landmarks = zoom[:, None, None] * (truth.landmarks @ turn.transpose(-1, -2)) + shift[:, None]
    about_view = torch.zeros_like(truth.pose[:, :3])
    about_view[:, 2] = -angle
    rotation = rotvec_to_matrix(about_view) @ rotvec_to_matrix(truth.pose[:, :3])
    root = head.joints(truth.shape, truth.expression)[:, 0, :2]
    flip = truth.camera.new_tensor([1.0, -1.0])
    scale = truth.camera[:, :1]
    seen = scale * (root + truth.camera[:, 1:]) * flip
    moved = zoom[:, None] * (turn @ seen[..., None])[..., 0] + shift
    scale = scale * zoom[:, None]
    camera = torch.cat([scale, moved * flip / scale - root], -1)
    pose = torch.cat([matrix_to_rotvec(rotation), truth.pose[:, 3:]], -1)
    return FaceTargets(truth.shape, truth.expression, pose, camera, landmarks, truth.visible)


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
