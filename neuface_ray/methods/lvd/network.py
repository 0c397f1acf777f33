"""Learned Vertex Descent: every vertex of a mesh follows its own neural field, conditioned on image features.

Source: Corona et al., "Learned Vertex Descent: A New Direction for 3D Human Model Fitting", ECCV 2022; written from the paper.

Frames. The *reference frame* is right-handed with x right, y up, z towards the viewer of the reference view; its unit is half
the side of the crop, so x and y run over [-1, 1]. ``to_view`` [B, N, 3, 4] is the similarity that carries reference
coordinates into the same kind of frame of each of N views; for a single view it is the identity. A point lies at crop
coordinates ``(x, -y)`` of its view.

The field. Every vertex has a neural field ``g_i(x) = clamp(p_i(x) - x)`` that says how a vertex at x moves. The published LVD
puts out g_i itself; here the network puts out the place p_i(x) that it sees the vertex at, as far as can be told from x. The
fields are the same and are trained on the same clamped displacements, but a network that knows only one place for a vertex
already has it as a fixed point, so that a descent settles early in training and late steps do not drift.

Several views. Each view gives displacements in its own frame, where the field has learned what an image looks like from in
front; they are turned into the reference frame and joined by least squares, each with the confidence that the field has in it
across the image plane and in depth, which it learns from its own errors in single views (`confidence_error`). The displacement
of a single view is taken exactly, equal ones count as one, and order does not matter. (How the published GLVD joins views is
not known; LVD has one view.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from neuface_ray.methods.lvd.settings import LIMIT, PROFILES
from neuface_ray.networks.hourglass import StackedHourglass

UNSEEN = 1e-3
START_SIGMA = 0.15
BEYOND = 0.1
SPREAD = 0.1
CANONICAL_SCALE = 8.0
"""Units of the canonical reference frame per metre of the head frame; an average crop has about as many half sides."""


class Scene(NamedTuple):
    """What is computed once per face: feature maps [B * N, C, h, w] for vertices and keypoints, cameras, and which views count.

    Args:
        to_view: (B, N, 3, 4). valid: (B, N) bool; a sample has at least one valid view.
    """

    maps: list[Tensor]
    to_view: Tensor
    valid: Tensor
    keypoint_maps: list[Tensor]


class Descent(NamedTuple):
    """The way of the vertices: ``vertices`` (B, V, 3), all iterates (T + 1, B, V, 3), and the keypoints' (B, K, 3) if any."""

    vertices: Tensor
    trajectory: Tensor
    keypoints: Tensor | None = None
    keypoint_trajectory: Tensor | None = None


def apply_similarity(transform: Tensor, points: Tensor) -> Tensor:
    """(..., 3, 4) affine transforms of points (..., P, 3)."""
    return points @ transform[..., :3].transpose(-1, -2) + transform[..., None, :, 3]


def compose(second: Tensor, first: Tensor) -> Tensor:
    """The affine transform (..., 3, 4) that applies ``first``, then ``second``."""
    linear = second[..., :3] @ first[..., :3]
    return torch.cat([linear, second[..., :3] @ first[..., 3:] + second[..., 3:]], -1)


def invert(transform: Tensor) -> Tensor:
    """Inverse of affine transforms (..., 3, 4)."""
    linear = torch.linalg.inv(transform[..., :3])
    return torch.cat([linear, -linear @ transform[..., 3:]], -1)


def sample_maps(maps: list[Tensor], points: Tensor) -> Tensor:
    """Pixel-aligned features: maps [M, C, h, w] sampled bilinearly at crop coordinates (M, P, 2), zero outside; (M, P, sum C).

    A map spans [-1, 1] from edge to edge, as crops do.
    """
    grid = points[:, None]
    sampled = [F.grid_sample(m, grid.to(m.dtype), mode="bilinear", align_corners=False)[:, :, 0] for m in maps]
    return torch.cat(sampled, 1).transpose(1, 2)


def fuse_displacements(per_view: Tensor, to_view: Tensor, confidence: Tensor) -> Tensor:
    """Joins the displacements that the views propose.

    The displacement d in the reference frame minimises ``sum_n confidence_n |R_n d - d_n / scale_n|^2`` with separate
    confidence across the image plane and along depth.

    Args:
        per_view: (B, N, P, ..., 3) in the frames of the views. to_view: (B, N, 3, 4) similarities.
        confidence: (B, N, P, 2) non-negative: in the image plane, in depth; positive in at least one view.

    Returns:
        (B, P, ..., 3) in the reference frame.
    """
    linear = to_view[..., :3]
    scale = linear.square().sum((-1, -2)).div(3).sqrt()
    rotation = (linear / scale[..., None, None])[:, :, None]
    if per_view.shape[1] == 1:
        gain = (rotation.transpose(-1, -2) / scale[:, :, None, None, None]).expand(-1, -1, per_view.shape[2], -1, -1)
    else:
        weights = torch.cat([confidence[..., :1], confidence], -1).to(linear.dtype)
        pull = rotation.transpose(-1, -2) * weights[..., None, :]
        gain = torch.linalg.solve((pull @ rotation).sum(1, keepdim=True), pull) / scale[:, :, None, None, None]
    flat = per_view.to(linear.dtype).flatten(3, -2) if per_view.dim() > 4 else per_view.to(linear.dtype).unsqueeze(3)
    return torch.einsum("bnpij,bnpvj->bpvi", gain, flat).reshape(per_view.shape[0], *per_view.shape[2:])


class PointField(nn.Module):
    """One displacement field for each of M points, with a shared trunk and a last layer of its own for each point.

    All displacements are unclamped, ``p_i(x) - x``; whoever takes a step clamps it.

    Args:
        n_features: channels sampled from the maps. n_extra: further inputs per query. hidden: width of the two hidden layers.
        n_points: M. canonical: coordinates and displacements are in the reference frame instead of each view's.
    """

    def __init__(self, n_features: int, n_extra: int, hidden: int, n_points: int, canonical: bool = False):
        super().__init__()
        self.n_points, self.canonical = n_points, canonical
        self.first = weight_norm(nn.Linear(3 + n_features + n_extra, hidden))
        self.second = weight_norm(nn.Linear(hidden, hidden))
        self.last = weight_norm(nn.Linear(hidden, 3 * n_points))
        self.confidence = nn.Linear(hidden, 2)
        nn.init.zeros_(self.confidence.weight)
        nn.init.zeros_(self.confidence.bias)
        self.distance = nn.Linear(hidden, 1)

    @torch.no_grad()
    def begin_at(self, places: Tensor) -> None:
        """Starting weights with which the fields lead to ``places`` (M, 3), moved together by a random affine map of the input.

        What most distinguishes pictures, where and how large a head is and how it is turned, then is a matter of few numbers.
        """
        ones = torch.cat([torch.ones_like(places[:, :1]), places], -1)
        maps = 0.3 * torch.randn(3, 4, self.last.in_features, device=places.device) / self.last.in_features**0.5
        self.last.weight = torch.einsum("ma,cah->mch", ones, maps).flatten(0, 1)
        self.last.bias.copy_(places.flatten())

    def dense(self, scene: Scene, maps: list[Tensor], points: Tensor, extra: Tensor | None, members: Tensor | None) -> Tensor:
        """Displacements (B, P, len(members), 3) from every query (B, P, 3) to every member (indices; None for all M)."""
        hidden, position, frames, confidence = self._hidden(scene, maps, points, extra)
        weight, bias = self._last_layer()
        if members is not None:
            weight, bias = weight[members], bias[members]
        places = F.linear(hidden, weight.flatten(0, 1), bias.flatten()).unflatten(-1, (-1, 3))
        return fuse_displacements(places - position[..., None, :], frames, confidence)

    def paired(
        self, scene: Scene, maps: list[Tensor], points: Tensor, extra: Tensor | None, members: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Displacement (B, M, 3) of each of the M points (or of the ``members``) at its own place (B, M, 3), in O(M), and the
        confidence (B, N, M, 2) of each view in it."""
        hidden, position, frames, confidence = self._hidden(scene, maps, points, extra)
        weight, bias = self._last_layer()
        if members is not None:
            weight, bias = weight[members], bias[members]
        places = torch.einsum("bnmh,mch->bnmc", hidden, weight.to(hidden.dtype)) + bias.to(hidden.dtype)
        return fuse_displacements(places - position, frames, confidence), confidence

    def signed_distance(self, scene: Scene, maps: list[Tensor], points: Tensor, extra: Tensor | None) -> Tensor:
        """Distance (B, P) of queries (B, P, 3) to the surface, for pre-training the trunk and the features."""
        hidden, _, _, confidence = self._hidden(scene, maps, points, extra)
        weight = confidence.mean(-1)
        return (self.distance(hidden)[..., 0].to(weight.dtype) * weight).sum(1) / weight.sum(1)

    def _last_layer(self) -> tuple[Tensor, Tensor]:
        return self.last.weight.unflatten(0, (self.n_points, 3)), self.last.bias.unflatten(0, (self.n_points, 3))

    def _hidden(self, scene: Scene, maps: list[Tensor], points: Tensor, extra: Tensor | None) -> tuple[Tensor, ...]:
        """Hidden state (B, N, P, H), positions (B, N, P, 3) and frames (B, N, 3, 4) of the views, confidence (B, N, P, 2).

        ``extra`` is (B, N, P, E), or (B, 1, P, E) for all views."""
        placed = apply_similarity(scene.to_view, points[:, None])
        crop = placed[..., :2] * placed.new_tensor([1.0, -1.0])
        features = sample_maps(maps, crop.flatten(0, 1)).unflatten(0, crop.shape[:2])
        position = points[:, None].expand_as(placed) if self.canonical else placed
        inputs = [position.to(features.dtype), features]
        if extra is not None:
            inputs.append(extra.expand(-1, placed.shape[1], -1, -1).to(features.dtype))
        hidden = torch.relu(self.second(torch.relu(self.first(torch.cat(inputs, -1)))))
        inside = (crop.abs() <= 1).all(-1, keepdim=True).to(placed.dtype) + UNSEEN
        confidence = F.softplus(self.confidence(hidden).to(placed.dtype)) * inside * scene.valid[:, :, None, None]
        frames = scene.to_view
        if self.canonical:
            frames = torch.eye(3, 4, dtype=frames.dtype, device=frames.device).expand_as(frames)
            confidence = confidence.mean(-1, keepdim=True).expand_as(confidence)
        return hidden, position, frames, confidence


class LVD(nn.Module):
    """Learned Vertex Descent for images.

    Args:
        n_vertices: of the mesh. profile: one of ``PROFILES``; ``sizes`` overrides its entries.
        mask: a foreground mask is the fourth channel of the images. canonical: see `PointField`. limit: see `LIMIT`.
    """

    kind = "lvd"
    renamed: ClassVar = {"trust": "confidence"}

    def __init__(
        self,
        n_vertices: int,
        profile: str = "small",
        mask: bool = False,
        canonical: bool = False,
        limit: float = LIMIT,
        **sizes: int,
    ):
        super().__init__()
        options = {"n_vertices": n_vertices, "profile": profile, "mask": mask, "canonical": canonical, "limit": limit}
        self.options, self.limit = options | sizes, limit
        size = PROFILES[profile] | sizes
        self.crop_size, self.n_channels, self.n_vertices = size["crop_size"], 4 if mask else 3, n_vertices
        self.image = StackedHourglass(self.n_channels, size["width"], size["stacks"], size["depth"], size["reduction"])
        self.vertex_field = PointField(size["stacks"] * size["width"], 0, size["hidden"], n_vertices, canonical)

    def scene(self, images: Tensor, to_view: Tensor | None = None, valid: Tensor | None = None) -> Scene:
        """Features of the views.

        Args:
            images: (B, N, C, S, S) in [0, 1]; a mask that is missing counts as full. to_view: (B, N, 3, 4), None for a single
                view. valid: (B, N), None for all.
        """
        to_view, valid = single_view_defaults(images, to_view, valid)
        return Scene(self.image(with_mask(images, self.n_channels).flatten(0, 1)), to_view, valid, [])

    def displacements(self, scene: Scene, points: Tensor, members: Tensor | None = None) -> Tensor:
        """Unclamped displacement (B, P, len(members), 3) of each query (B, P, 3) to each vertex: the field that is trained."""
        return self.vertex_field.dense(scene, scene.maps, points, None, members)

    def signed_distance(self, scene: Scene, points: Tensor) -> Tensor:
        """Distance (B, P) of queries (B, P, 3) to the surface, for pre-training."""
        return self.vertex_field.signed_distance(scene, scene.maps, points, None)

    def paired_displacements(self, scene: Scene, vertices: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Unclamped displacement (B, V, 3) of each vertex, or of the ``members``, from its place, confidence (B, N, V, 2)."""
        return self.vertex_field.paired(scene, scene.maps, vertices, None, members)

    def step(self, scene: Scene, vertices: Tensor, members: Tensor | None = None) -> Tensor:
        """One update of the vertices (B, V, 3), or of only the ``members`` (B, len(members), 3)."""
        moves, _ = self.paired_displacements(scene, vertices, members)
        return vertices + moves.clamp(-self.limit, self.limit)

    def descend(self, scene: Scene, steps: int = 10, start: Tensor | None = None) -> Descent:
        """Iterates from ``start`` (B, V, 3), or from a random cloud that is always the same (`start_cloud`)."""
        start = start_cloud(scene, self.n_vertices) if start is None else start
        (path,) = iterate(lambda state: (self.step(scene, state[0]),), (start,), steps)
        return Descent(path[-1], path)


def with_mask(images: Tensor, channels: int) -> Tensor:
    """Images (..., C, S, S) with as many channels as the network has: a missing mask is full, what is masked out is black."""
    if channels == 3:
        return images
    if images.shape[-3] == 3:
        return torch.cat([images, torch.ones_like(images[..., :1, :, :])], -3)
    return torch.cat([images[..., :3, :, :] * images[..., 3:, :, :], images[..., 3:, :, :]], -3)


def single_view_defaults(images: Tensor, to_view: Tensor | None, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Identity transforms (B, V, 3, 4) and all-valid masks (B, V) where none are given for images (B, V, C, H, W)."""
    batch, views = images.shape[:2]
    if to_view is None:
        to_view = torch.eye(3, 4, device=images.device).expand(batch, views, 3, 4)
    if valid is None:
        valid = torch.ones(batch, views, dtype=torch.bool, device=images.device)
    return to_view, valid


def start_cloud(scene: Scene, count: int, seed: int = 0) -> Tensor:
    """Starting positions (B, count, 3): Gaussian about the centre of the crop, the same for every face."""
    generator = torch.Generator().manual_seed(seed)
    cloud = START_SIGMA * torch.randn(count, 3, generator=generator)
    return cloud.to(scene.to_view.device, torch.float32).expand(scene.to_view.shape[0], -1, -1)


def iterate(
    step: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]], start: tuple[Tensor, ...], steps: int
) -> tuple[Tensor, ...]:
    """All iterates of ``step``, each part of the state stacked to (steps + 1, ...)."""
    states = [start]
    with parametrize.cached():
        for _ in range(steps):
            states.append(step(states[-1]))
    return tuple(torch.stack(parts) for parts in zip(*states, strict=True))


def descent_error(displacements: Tensor, wanted: Tensor, limit: float) -> Tensor:
    """Mean absolute error of clamped displacements (LVD's loss), in which what lies beyond the clamp keeps a small share.

    Without it a displacement that is clamped on the wrong side would have no gradient, and how far a view sees a vertex could
    not be compared with what other views see.

    Args:
        displacements, wanted: unclamped displacements of one shape.
    """
    return (soft_clamp(displacements.to(wanted.dtype), limit) - soft_clamp(wanted, limit)).abs().mean()


def soft_clamp(x: Tensor, limit: float) -> Tensor:
    """``clamp(x, -limit, limit)`` with the slope `BEYOND` outside."""
    return BEYOND * x + (1 - BEYOND) * x.clamp(-limit, limit)


def confidence_error(error: Tensor, points: Tensor, confidence: Tensor) -> Tensor:
    """What makes a view's confidence the inverse mean square of its errors: their negative Gaussian log likelihood.

    Args:
        error: (B, M, 3) of displacements from ``points`` (B, M, 3) in the frame of the only view; it gets no gradient.
        confidence: (B, 1, M, 2) in the image plane and in depth. Points beside the picture do not count.
    """
    squares = (error.detach() / SPREAD).square()
    squares = torch.stack([squares[..., :2].mean(-1), squares[..., 2]], -1)
    seen = (points[..., :2].abs() <= 1).all(-1, keepdim=True).to(squares.dtype)
    terms = confidence[:, 0] * squares - confidence[:, 0].clamp_min(1e-6).log()
    return (terms * seen).sum() / (2 * seen.sum()).clamp_min(1)
