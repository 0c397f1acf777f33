"""Settings of Learned Vertex Descent."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.methods.settings import AugmentSettings

PROFILES: dict[str, dict[str, int]] = {
    "paper": {"crop_size": 256, "width": 256, "stacks": 4, "depth": 2, "reduction": 2, "hidden": 512},
    "small": {"crop_size": 128, "width": 64, "stacks": 2, "depth": 3, "reduction": 4, "hidden": 256},
}


LIMIT = 0.3
"""Largest move of a vertex along each axis in one step, in half crops."""


@dataclass
class DescentSettings:
    """A descent network and how it is run."""

    weights: str | None = field(default=None, metadata={"help": "weight file from jobs/train.py; null: the packaged one"})
    steps: int = field(default=10, metadata={"help": "updates of every vertex"})
    fuse_views: bool = field(default=True, metadata={"help": "one mesh from all views of an instant; no: one from each view"})
    batch: int = field(default=16, metadata={"help": "instants that are computed together"})


@dataclass
class LvdTrainingSettings:
    """What LVD and GLVD have in common."""

    profile: str = field(default="small", metadata={"help": f"size of the network: {' or '.join(PROFILES)}"})
    views: int = field(default=1, metadata={"help": "most views in a sample"})
    one_view: float = field(default=0.6, metadata={"help": "probability that a batch shows only the first view"})
    canonical: bool = field(default=False, metadata={"help": "descend in the head's frame instead of the first view's"})
    limit: float = field(default=LIMIT, metadata={"help": "clamp of the displacements, in half crops"})
    points: int = field(default=128, metadata={"help": "queries per sample, half uniform, half near the surface"})
    members: int = field(default=256, metadata={"help": "random vertices whose displacements are computed at each step"})
    near: float = field(default=0.03, metadata={"help": "standard deviation of the near queries, in half crops"})
    unroll: float = field(default=1.0, metadata={"help": "weight of the error after real steps; 0: none"})
    unroll_from: float = field(default=0.1, metadata={"help": "share of the training after which that term begins"})
    confidence: float = field(default=0.02, metadata={"help": "weight of learning the confidence in each view"})
    mask: bool = field(default=False, metadata={"help": "a foreground mask as fourth channel: the label's silhouette, or full"})
    sdf: float = field(default=0.0, metadata={"help": "share of the training that goes before, on signed distances"})
    augment: AugmentSettings = field(default_factory=AugmentSettings)
