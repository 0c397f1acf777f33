"""What is known of a clip, as tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neuface_ray.heads import HeadModel
from neuface_ray.types import FaceClip

TUNED_FPS = 25.0
"""Frame rate at which the weights of our own terms in time were chosen; see :attr:`Observations.frame_rate_ratio`."""


@dataclass(frozen=True)
class Observations:
    """What is known of a clip, as tensors: landmarks (F, V, L, 2) in crop coordinates, their weights (F, V, L), valid (F, V).

    ``blendshapes`` is (F, V, 52) or None. For calibrated clips ``intrinsics`` (V, 3, 3), ``world_to_camera`` (V, 4, 4) and
    ``image_to_crop`` (F, V, 3, 3) are given, else ``intrinsics`` is None. ``fps``: frames per second.
    """

    landmarks: Tensor
    weight: Tensor
    valid: Tensor
    scheme: str
    blendshapes: Tensor | None
    image_to_crop: Tensor
    intrinsics: Tensor | None = None
    world_to_camera: Tensor | None = None
    fps: float = TUNED_FPS

    @classmethod
    def of(cls, clip: FaceClip, head: HeadModel, device: torch.device | str = "cpu") -> Observations:
        """Reads a clip; points that the head has no embedding for, and frames without a face, get weight 0."""
        embedding = head.embedding(clip.landmark_scheme)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)

        weight = tensor(clip.landmark_confidence) * embedding.weight.to(device) * tensor(clip.valid)[..., None]
        cameras = [view.camera for view in clip.segment.views]
        calibrated = all(camera is not None for camera in cameras)
        return cls(
            landmarks=tensor(clip.landmarks),
            weight=weight,
            valid=torch.as_tensor(clip.valid, device=device),
            scheme=clip.landmark_scheme,
            blendshapes=None if clip.blendshapes is None else tensor(clip.blendshapes),
            image_to_crop=tensor(np.linalg.inv(clip.crop_to_image)),
            intrinsics=tensor(np.stack([c.intrinsics for c in cameras])) if calibrated else None,
            world_to_camera=tensor(np.stack([c.world_to_camera for c in cameras])) if calibrated else None,
            fps=clip.fps if math.isfinite(clip.fps) and clip.fps > 0 else TUNED_FPS,
        )

    def of_frames(self, frames: range | slice | Tensor) -> Observations:
        """The observations of some frames: consecutive ones, or those of an index."""
        here = slice(frames.start, frames.stop) if isinstance(frames, range) else frames
        per_frame = ("landmarks", "weight", "valid", "blendshapes", "image_to_crop")
        return replace(self, **{k: getattr(self, k)[here] for k in per_frame if getattr(self, k) is not None})

    @property
    def frame_rate_ratio(self) -> float:
        """Frame rate over the one that weights were chosen at.

        Weights of squared second differences are multiplied by its square. The same movement has larger differences at a lower
        rate: without a factor, rendered sequences of which only every third frame was taken kept 72 % of their blinks, with
        it 84 (86 at the full rate). The fourth power, which weighs the same acceleration equally, kept no more and left noise.
        """
        return self.fps / TUNED_FPS

    @property
    def calibrated(self) -> bool:
        return self.intrinsics is not None
