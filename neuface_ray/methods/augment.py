"""Random colours and in-plane motions of training crops, on the device; labels move with the picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from neuface_ray.methods.settings import AugmentSettings

LUMA = (0.299, 0.587, 0.114)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform random numbers on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def change_colours(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Contrast, brightness, hue, saturation and gamma of images (..., 3, H, W) in [0, 1], each with ``probability``.

    Ranges as in LVD: brightness x 0.5 to 1.5 and +- 30/255, saturation x 0.75 to 1.25, gamma 0.7 to 1.3; hue turns by up to
    pi / 8 in the plane orthogonal to grey.
    """
    lead = images.shape[:-3]

    def maybe(low: float, high: float, neutral: float) -> Tensor:
        value = uniform(lead, low, high, generator)
        keep = uniform(lead, 0, 1, generator) < probability
        return torch.where(keep, value, torch.full_like(value, neutral))[..., None, None, None]

    images = images * maybe(0.5, 1.5, 1.0) + maybe(-30 / 255, 30 / 255, 0.0)
    grey = (images * images.new_tensor(LUMA)[:, None, None]).sum(-3, keepdim=True)
    chroma = (images - grey) * maybe(0.75, 1.25, 1.0)
    angle = maybe(-math.pi / 8, math.pi / 8, 0.0)
    other = (chroma.roll(1, -3) - chroma.roll(2, -3)) / math.sqrt(3)
    images = (grey + angle.cos() * chroma + angle.sin() * other).clamp(0, 1)
    return images.clamp_min(1e-4) ** maybe(0.7, 1.3, 1.0)


def random_motion(lead: tuple[int, ...], config: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Similarities (..., 3, 4) of a view's frame: rotation about z, scale, shift in x and y."""
    angle = torch.deg2rad(uniform(lead, -config.rotation_deg, config.rotation_deg, generator))
    scale = 1 + uniform(lead, -config.scale, config.scale, generator)
    shift = uniform((*lead, 2), -config.shift, config.shift, generator)
    return planar_motion(angle, scale, shift)


def planar_motion(angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Similarities (..., 3, 4) of a view's frame (y up): turn counter-clockwise by ``angle`` (...), radians, then ``scale``
    (...), then ``shift`` (..., 2), half crops."""
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack([scale * angle.cos(), -scale * angle.sin(), zero, shift[..., 0]], -1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), zero, shift[..., 1]], -1),
        torch.stack([zero, zero, scale, zero], -1),
    ]
    return torch.stack(rows, -2)


def move_images(images: Tensor, motion: Tensor, beyond: str = "zeros") -> Tensor:
    """Moves the content of images (..., C, H, W) as ``motion`` (..., 3, 4) moves the points of their view; ``beyond`` their
    edges they are black (``zeros``) or go on as at the edge (``border``)."""
    flip = motion.new_tensor([1.0, -1.0])
    linear = torch.linalg.inv(flip[:, None] * motion[..., :2, :2] * flip)
    offset = -(linear @ (flip * motion[..., :2, 3])[..., None])
    flat = images.flatten(0, -4)
    grid = F.affine_grid(torch.cat([linear, offset], -1).flatten(0, -3), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid.to(flat.dtype), padding_mode=beyond, align_corners=False).reshape(images.shape)


def move_points(points: Tensor, motion: Tensor) -> Tensor:
    """Crop coordinates (..., K, 2) after ``motion`` (..., 3, 4)."""
    flip = motion.new_tensor([1.0, -1.0])
    return ((points * flip) @ motion[..., :2, :2].transpose(-1, -2) + motion[..., None, :2, 3]) * flip
