"""Settings of the toy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ToySettings:
    """Annotating by the toy."""

    weights: str | None = None
    """Weight file from jobs/train.py recipe=toy; there is no packaged one."""


@dataclass
class ToyTraining:
    """Training the toy."""

    crop_size: int = 32
    """Side of the crops, pixels."""
    strength: float = 1.0
    """Weight of the only loss."""
