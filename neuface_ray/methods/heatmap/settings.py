"""Settings of the heatmap network."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.methods.settings import AugmentSettings

# Brows, point between the brows, outer eye corners, nose bridge, nose base, mouth corners, jaw angles, chin.
_BASE = ((31,), (32,), (33,), (34,), (35,))
_EIGHTEEN = ((19,), (24,), (21, 22), (36,), (45,), (27,), (28,), (29,), *_BASE, (48,), (54,), (4,), (12,), (8,))
_THIRTEEN = ((19,), (24,), (21, 22), (36,), (45,), (28,), (30,), (31,), (33,), (35,), (48,), (54,), (8,))
SETS: dict[int, tuple[tuple[int, ...], ...]] = {13: _THIRTEEN, 18: _EIGHTEEN, 68: tuple((i,) for i in range(68))}
"""Keypoint sets by their size; each point is the mean of the named points of the 68-point scheme."""


@dataclass
class HeatmapTrainingSettings:
    """The heatmap network and its training."""

    keypoints: int = field(default=18, metadata={"help": f"points to mark: {', '.join(map(str, SETS))}"})
    crop_size: int = field(default=128, metadata={"help": "side of the crops, pixels"})
    width: int = field(default=64, metadata={"help": "channels of the hourglass"})
    stacks: int = field(default=1, metadata={"help": "hourglasses"})
    sigma: float = field(default=0.06, metadata={"help": "standard deviation of the Gaussians, in half crops"})
    augment: AugmentSettings = field(default_factory=AugmentSettings)
