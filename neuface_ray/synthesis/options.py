"""What is drawn: the settings that a synthesis run and a training which makes its own faces have in common."""

from __future__ import annotations

from dataclasses import dataclass

from neuface_ray.errors import UsageError
from neuface_ray.synthesis.materials import Materials


@dataclass(frozen=True)
class SynthesisOptions(Materials):
    """Faces or videos to draw."""

    kind: str = "faces"
    """faces: shards of single crops to train on; videos: a dataset of videos with their ground truth."""
    count: int = 10_240
    """Faces (rounded up to whole shards of 512) or videos."""
    seed: int = 0
    """Seed of all random numbers; together with the number of a face or video it decides everything about it."""
    size: int = 128
    """Side of the crops, pixels."""
    frames: int = 60
    """Frames of a video."""
    fps: float = 25.0
    """Frames a second."""
    views: int = 1
    """Synchronised calibrated views of a video, 1 to 7: front, left and right 30 and 60 degrees, top, down."""
    yaw_deg: float = 80.0
    """Largest resting yaw."""
    occluded: float = 0.2
    """Share of single faces with something before them."""
    shape_sd: float = 1.0
    """Spread of the identity coefficients; 1 is the head model's."""
    canonical: float = 0.0
    """0: people's mean is the head model's. Else anywhere up to this share of the way to MediaPipe's canonical face."""
    untextured: float = 0.0
    """Share of people drawn like scans without a texture: one colour, no hair, half of them the face alone."""
    unshaded: float = 0.0
    """Share of people drawn without shadows and occlusion, between linear and display values."""
    detect: bool = False
    """Also look for the faces with the landmark detector. Faces: its points beside the true ones. Videos: its points instead of
    the true ones, as in annotated datasets; frames in which it finds no face are invalid."""

    def __post_init__(self) -> None:
        if self.kind not in ("faces", "videos"):
            raise UsageError(f"kind must be faces or videos, got {self.kind!r}")
        if not 1 <= self.views <= 7:
            raise UsageError(f"views must be 1 to 7, got {self.views}")
        if min(self.frames, self.size) < 1 or self.count < 0 or self.fps <= 0:
            raise UsageError("frames and size must be at least 1, count not negative, and fps positive")
        if self.shape_sd <= 0 or self.canonical < 0:
            raise UsageError(f"shape_sd={self.shape_sd} must be positive, canonical={self.canonical} not negative")
        if not (0 <= self.untextured <= 1 and 0 <= self.unshaded <= 1):
            raise UsageError(f"untextured={self.untextured} and unshaded={self.unshaded} must be between 0 and 1")
