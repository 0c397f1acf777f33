"""Synthetic faces to train on, made on the cluster before the training starts as far as they are not there yet."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from neuface_ray.pipeline.synthesize import SynthesizeConfig, run
from neuface_ray.synthesis.materials import Materials


@dataclass(frozen=True)
class SyntheticConfig(Materials):
    """Synthetic faces that a training makes for itself; equal settings give equal faces."""

    count: int = 0
    """Faces, in whole shards of 512, or videos to make; 0: none. They are added to `data`."""
    folder: str = "data/faces"
    """Where they are kept, for other trainings too; on a file system that all workers share."""
    kind: str = "faces"
    """faces: single crops; videos: with several views of each instant."""
    seed: int = 0
    """Of the faces."""
    size: int = 128
    """Side of the crops, pixels."""
    frames: int = 4
    """Frames of a video."""
    views: int = 3
    """Views of a video."""


def make_faces(config: SyntheticConfig, head: str) -> str:
    """Makes what is missing, inside a Ray session, and returns the folder; says what it does."""
    folder = os.path.abspath(config.folder)
    settings = {name: value for name, value in asdict(config).items() if name != "folder"}
    print(f"synthetic {config.kind}: {config.count} in {folder}", flush=True)
    print(run(SynthesizeConfig(output=folder, head=head, **settings)).table(), flush=True)
    return folder
