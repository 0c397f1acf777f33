"""Differentiable image formation at points: spherical-harmonic light, colours looked up in pictures, and what faces the viewer.

There is no rasteriser: every vertex is shaded and compared with the picture where it projects. All functions take any leading
batch dimensions, which broadcast. Normals are unit vectors in the view frame (x right, y up, z towards the viewer); colours are
linear and unbounded. Source: Tewari et al., "Self-supervised Multi-level Face Model Learning", CVPR 2018, section 5.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, normalize


def sh_basis(normals: Tensor) -> Tensor:
    """Real spherical harmonics (..., 9) of bands 0 to 2 at unit vectors (..., 3), orthonormal on the sphere.

    In the order (0,0) (1,-1) (1,0) (1,1) (2,-2) (2,-1) (2,0) (2,1) (2,2), without the Condon-Shortley phase.
    """
    x, y, z = normals.unbind(-1)
    first, second = 0.488603, 1.092548
    bands = [torch.full_like(x, 0.282095), first * y, first * z, first * x]
    bands += [second * x * y, second * y * z, 0.315392 * (3 * z * z - 1), second * x * z, 0.546274 * (x * x - y * y)]
    return torch.stack(bands, -1)


def shade(albedo: Tensor, normals: Tensor, gamma: Tensor) -> Tensor:
    """Colours (..., N, 3) of lit points: ``albedo * sum_b gamma_b H_b(normal)``.

    Args:
        albedo: (..., N, 3). normals: (..., N, 3).
        gamma: (..., 9, 3) light per harmonic and colour. It already holds the cosine of Lambert's law: radiance coefficients,
            as :func:`neuface_ray.geometry.render.spherical_harmonics` takes them, times 1, 2/3 and 1/4 in bands 0, 1 and 2.
    """
    return albedo * (sh_basis(normals) @ gamma)


def sample_image(images: Tensor, points: Tensor) -> Tensor:
    """Bilinear colours (..., P, C) of pictures (..., C, H, W) at crop coordinates (..., P, 2), differentiable in both.

    Crop coordinates run from -1 to 1 between the outer edges of the picture, x right and y down; pixel centres lie at +0.5, so
    that pixel (i, j) of a picture W wide and H high has its centre at ``((2 j + 1) / W - 1, (2 i + 1) / H - 1)``. Points nearer
    to the edge than half a pixel, and those outside, get the colour of the nearest place between pixel centres.
    """
    batch = torch.broadcast_shapes(images.shape[:-3], points.shape[:-2])
    flat = images.expand(*batch, *images.shape[-3:]).reshape(-1, *images.shape[-3:])
    grid = points.expand(*batch, *points.shape[-2:]).reshape(len(flat), 1, *points.shape[-2:])
    colours = grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return colours[:, :, 0].transpose(-1, -2).reshape(*batch, points.shape[-2], images.shape[-3])


def facing(normals: Tensor, towards_viewer: Tensor | None = None) -> Tensor:
    """Cosine (...) between unit normals (..., 3) and unit directions (..., 3) to the viewer; positive where it can be seen.

    Without directions the viewer is infinitely far along z, as for a weak-perspective camera.
    """
    return normals[..., 2] if towards_viewer is None else (normals * towards_viewer).sum(-1)


def directions_to_viewer(points: Tensor, translation: Tensor) -> Tensor:
    """Unit vectors (..., N, 3) from points (..., N, 3) to a pinhole camera.

    Args:
        points: posed head, metres. translation: (..., 3) of the head in the view frame, as
            :func:`neuface_ray.geometry.cameras.project_pinhole` takes it.
    """
    return normalize(-(points + translation[..., None, :]), dim=-1)
