"""What the driver of a training hands to its workers, and where a note of theirs lies for the driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuface_ray.training.config import TrainConfig
from neuface_ray.training.stream import Split

POSITION = "position.json"
"""In the run's folder: how far the stream of samples has been consumed."""


@dataclass(frozen=True)
class WorkerContext:
    """What every worker needs to know.

    Args:
        start: weight file to begin with, for trainings without a checkpoint; None: what the recipe builds.
    """

    config: TrainConfig
    split: Split
    folder: Path
    start: Path | None
