"""Synthetic faces to train on, made on the cluster before the training starts as far as they are not there yet."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field

from neuface_ray.screen import show
from neuface_ray.synthesis.options import SynthesisOptions


@dataclass(frozen=True)
class SyntheticConfig(SynthesisOptions):
    """Synthetic faces that a training makes for itself; equal settings give equal faces."""

    count: int = field(
        default=0, metadata={"help": "Faces, in whole shards of 512, or videos to make; 0: none. They are added to `data`."}
    )
    folder: str = "data/faces"
    """Where they are kept, for other trainings too; on a file system that all workers share."""
    frames: int = field(default=4, metadata={"help": "Frames of a video."})
    views: int = field(default=3, metadata={"help": "Synchronised calibrated views of a video, 1 to 7."})


def make_faces(config: SyntheticConfig, head: str) -> str:
    """Makes what is missing, inside a Ray session, and returns the folder; says what it does."""
    from neuface_ray.pipeline.synthesize import SynthesizeConfig, run  # the renderer, which most trainings do not need

    folder = os.path.abspath(config.folder)
    settings = {name: value for name, value in asdict(config).items() if name != "folder"}
    show(f"synthetic {config.kind}: {config.count} in {folder}")
    show(run(SynthesizeConfig(output=folder, head=head, **settings)).table())
    return folder
