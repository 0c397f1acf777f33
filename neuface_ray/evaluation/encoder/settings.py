"""Settings of the evaluation of the encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.evaluation.settings import BaselineSettings


@dataclass(frozen=True)
class EncoderEvaluation(BaselineSettings):
    """The encoder alone on photographs and on synthetic faces."""

    methods: list[str] = field(default_factory=lambda: ["encoder"])
    """Annotators under evaluation: encoder, and any others for comparison."""
    photos: list[str] = field(default_factory=list)
    """Photographs, folders or globs of them. Files of 68 landmarks beside them (.pts, .npy, AFLW2000-3D's .mat) are used."""
    synthetic: int = 400
    """Synthetic faces, each of another person, spread evenly over the yaw bins; 0 for none."""
    seed: int = 90_001
    """Of the synthetic faces; one that no training set has."""
    size: int = 288
    """Side of the synthetic pictures in pixels; the face fills about half of it."""
    workers: int = 2
    """Processes, one thread each."""
