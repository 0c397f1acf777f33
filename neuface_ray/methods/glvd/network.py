"""Guided Learned Vertex Descent: keypoints descend first, and vertices are encoded relative to them.

Source: Caselles Rico and Moreno-Noguer, "GLVD: Guided Learned Vertex Descent", NeurIPS 2025. No code is public; the structure
follows the paper's abstract and method figure: a frozen heatmap estimator and image features make keypoint features; a
keypoint field moves K keypoints; a vertex field sees image features and the Euclidean distances to the current keypoints;
both run in lock-step. The encoding's exact form, sizes and the joining of views are this project's choices; the Gaussian
factor on the encoding follows the idea of KeypointNeRF (Mihajlovic et al., ECCV 2022). Distances alone leave open how the
keypoints are turned about a point; ``relative="offsets"`` adds the ways to the keypoints, which the paper does not mention.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuface_ray.methods.glvd.settings import HEATMAP_SOURCES, RELATIVE
from neuface_ray.methods.lvd.network import (
    LVD,
    Descent,
    PointField,
    Scene,
    iterate,
    single_view_defaults,
    start_cloud,
    with_mask,
)
from neuface_ray.methods.lvd.settings import LIMIT, PROFILES
from neuface_ray.networks.hourglass import ConvBlock, HeatmapNet, Hourglass, StackedHourglass, gaussian_heatmaps

OCTAVES = 3
ENCODING_SIGMA = 0.25


def relative_encoding(points: Tensor, keypoints: Tensor) -> Tensor:
    """Distances of points to keypoints, with the near ones in detail.

    For each distance d: d, and with the factor ``exp(-d^2 / (2 sigma^2))``: d, ``sin(2^l pi d)``, ``cos(2^l pi d)`` for three
    octaves. Distances do not change under rotation and shift, so the encoding is the same in every view.

    Args:
        points: (B, P, 3). keypoints: (B, K, 3).

    Returns:
        (B, P, 8 K).
    """
    distance = (points[:, :, None] - keypoints[:, None]).square().sum(-1).clamp_min(1e-12).sqrt()
    near = torch.exp(-(distance**2) / (2 * ENCODING_SIGMA**2))
    angles = [2**octave * math.pi * distance for octave in range(OCTAVES)]
    detail = [distance, *(angle.sin() for angle in angles), *(angle.cos() for angle in angles)]
    return torch.cat([distance, *(near * part for part in detail)], -1)


class GLVD(nn.Module):
    """Guided Learned Vertex Descent.

    Args:
        n_vertices, n_keypoints: of the mesh, and guiding it. profile: one of ``PROFILES``; ``sizes`` overrides its entries.
        mask: a foreground mask is the fourth channel of the images. canonical: see `PointField`. limit: see `LVD`.
        heatmaps: ``network`` (a frozen `HeatmapNet`), ``landmarks`` (Gaussians at given 2D points, such as a detector's)
            or ``none``. heatmap_options: of the network. relative: how vertices are encoded relative to the keypoints, by
            ``distances``, by ``offsets`` as well, or not at all (``none``, an ablation).
    """

    kind = "glvd"
    renamed: ClassVar = LVD.renamed

    def __init__(
        self,
        n_vertices: int,
        n_keypoints: int = 18,
        profile: str = "small",
        mask: bool = False,
        canonical: bool = False,
        heatmaps: str = "network",
        heatmap_options: dict[str, int] | None = None,
        relative: str = "offsets",
        limit: float = LIMIT,
        **sizes: int,
    ):
        super().__init__()
        self.options = {
            "n_vertices": n_vertices,
            "n_keypoints": n_keypoints,
            "profile": profile,
            "mask": mask,
            "canonical": canonical,
            "heatmaps": heatmaps,
            "heatmap_options": heatmap_options,
            "relative": relative,
            "limit": limit,
            **sizes,
        }
        if heatmaps not in HEATMAP_SOURCES:
            raise ValueError(f"heatmaps must be one of {', '.join(HEATMAP_SOURCES)}, got {heatmaps!r}")
        if relative not in RELATIVE:
            raise ValueError(f"relative must be one of {', '.join(RELATIVE)}, got {relative!r}")
        size = PROFILES[profile] | sizes
        self.crop_size, self.n_channels = size["crop_size"], 4 if mask else 3
        self.n_vertices, self.n_keypoints, self.limit = n_vertices, n_keypoints, limit
        self.heatmaps, self.relative, self.canonical = heatmaps, relative, canonical
        width = size["width"]
        self.image = StackedHourglass(self.n_channels, width, size["stacks"], size["depth"], size["reduction"])
        self.heatmap_net = None
        if heatmaps == "network":
            options = {"n_points": n_keypoints} | (heatmap_options or {})
            self.heatmap_net = HeatmapNet(**options).requires_grad_(False)
        half = width // 2
        extra = n_keypoints if heatmaps != "none" else 0
        self.keypoint_image = nn.Sequential(
            nn.Conv2d(width + extra, half, 1), Hourglass(size["depth"], half), ConvBlock(half, half)
        )
        self.keypoint_field = PointField(half, 0, size["hidden"] // 2, n_keypoints, canonical)
        n_relative = {"none": 0, "distances": 2 + 2 * OCTAVES, "offsets": 5 + 2 * OCTAVES}[relative] * n_keypoints
        self.vertex_field = PointField(size["stacks"] * width, n_relative, size["hidden"], n_vertices, canonical)

    def train(self, mode: bool = True) -> GLVD:
        """The heatmap network stays as it was pre-trained."""
        super().train(mode)
        if self.heatmap_net is not None:
            self.heatmap_net.eval().requires_grad_(False)
        return self

    def scene(
        self,
        images: Tensor,
        to_view: Tensor | None = None,
        valid: Tensor | None = None,
        landmarks: Tensor | None = None,
    ) -> Scene:
        """Features of the views.

        Args:
            images: (B, N, C, S, S) in [0, 1]; a mask that is missing counts as full. to_view: (B, N, 3, 4), None for a single
                view. valid: (B, N), None for all.
            landmarks: (B, N, K, 2) crop coordinates of the keypoints for ``heatmaps="landmarks"``, NaN where not known.
        """
        to_view, valid = single_view_defaults(images, to_view, valid)
        flat = with_mask(images, self.n_channels).flatten(0, 1)
        maps = self.image(flat)
        marked = [maps[-1]]
        if self.heatmaps != "none":
            marked.append(self._heatmaps(flat, landmarks, maps[-1].shape[-1]).to(maps[-1].dtype))
        return Scene(maps, to_view, valid, [self.keypoint_image(torch.cat(marked, 1))])

    def _heatmaps(self, images: Tensor, landmarks: Tensor | None, size: int) -> Tensor:
        if self.heatmap_net is not None:
            with torch.no_grad():
                heat = self.heatmap_net(images[:, :3])
            return heat if heat.shape[-1] == size else F.interpolate(heat, size=(size, size), mode="bilinear")
        if landmarks is None:
            raise ValueError("this network was built with heatmaps='landmarks': give it the 2D landmarks of the keypoints")
        return torch.nan_to_num(gaussian_heatmaps(landmarks.flatten(0, 1), size), 0.0)

    def keypoint_displacements(self, scene: Scene, points: Tensor) -> Tensor:
        """Unclamped displacement (B, P, K, 3) of each query (B, P, 3) to each keypoint."""
        return self.keypoint_field.dense(scene, scene.keypoint_maps, points, None, None)

    def displacements(self, scene: Scene, points: Tensor, keypoints: Tensor, members: Tensor | None = None) -> Tensor:
        """Unclamped displacement (B, P, len(members), 3) of each query (B, P, 3) to each vertex, given keypoints (B, K, 3)."""
        return self.vertex_field.dense(scene, scene.maps, points, self._encode(scene, points, keypoints), members)

    def signed_distance(self, scene: Scene, points: Tensor, keypoints: Tensor) -> Tensor:
        """Distance (B, P) of queries (B, P, 3) to the surface, for pre-training."""
        return self.vertex_field.signed_distance(scene, scene.maps, points, self._encode(scene, points, keypoints))

    def paired_keypoint_displacements(self, scene: Scene, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Unclamped displacement of each keypoint (B, K, 3) from its own place, and confidence (B, N, K, 2)."""
        return self.keypoint_field.paired(scene, scene.keypoint_maps, keypoints, None)

    def paired_displacements(
        self, scene: Scene, vertices: Tensor, keypoints: Tensor, members: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Unclamped displacement of each vertex (B, V, 3), or of the ``members``, from its own place with keypoints (B, K, 3),
        and confidence (B, N, V, 2)."""
        return self.vertex_field.paired(scene, scene.maps, vertices, self._encode(scene, vertices, keypoints), members)

    def step_keypoints(self, scene: Scene, keypoints: Tensor) -> Tensor:
        """One update of the keypoints (B, K, 3)."""
        moves, _ = self.paired_keypoint_displacements(scene, keypoints)
        return keypoints + moves.clamp(-self.limit, self.limit)

    def step(self, scene: Scene, vertices: Tensor, keypoints: Tensor, members: Tensor | None = None) -> Tensor:
        """One update of the vertices (B, V, 3), or of only the ``members``, given keypoints (B, K, 3)."""
        moves, _ = self.paired_displacements(scene, vertices, keypoints, members)
        return vertices + moves.clamp(-self.limit, self.limit)

    def _encode(self, scene: Scene, points: Tensor, keypoints: Tensor) -> Tensor | None:
        """What the vertex field knows of keypoints (B, K, 3) at points (B, P, 3): (B, N or 1, P, E), in the views' frames."""
        if self.relative == "none":
            return None
        distances = relative_encoding(points, keypoints)[:, None]
        if self.relative == "distances":
            return distances
        offsets = (keypoints[:, None] - points[:, :, None])[:, None]
        if not self.canonical:
            offsets = offsets @ scene.to_view[:, :, None, :, :3].transpose(-1, -2)
        return torch.cat([distances.expand(-1, offsets.shape[1], -1, -1), offsets.flatten(-2)], -1)

    def descend(self, scene: Scene, steps: int = 10, start: Tensor | None = None, keypoints: Tensor | None = None) -> Descent:
        """Keypoints and vertices in lock-step; vertices see the keypoints of the same step.

        Args:
            start: (B, V, 3), None for the usual random cloud. keypoints: (B, K, 3) known ones that are kept instead of
                descending (ablation).
        """
        start = start_cloud(scene, self.n_vertices) if start is None else start
        first = start_cloud(scene, self.n_keypoints, seed=1) if keypoints is None else keypoints

        def step(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            moved = self.step_keypoints(scene, state[1]) if keypoints is None else state[1]
            return self.step(scene, state[0], moved), moved

        path, guide = iterate(step, (start, first), steps)
        return Descent(path[-1], path, guide[-1], guide)
