"""Settings of Guided Learned Vertex Descent."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.methods.heatmap.settings import SETS
from neuface_ray.methods.lvd.settings import LvdTrainingSettings

RELATIVE = ("offsets", "distances", "none")


HEATMAP_SOURCES = ("network", "landmarks", "none")


@dataclass
class GlvdTrainingSettings(LvdTrainingSettings):
    """Guided descent; ablations are ``relative``, ``heatmaps`` and ``keypoints``."""

    keypoints: int = field(default=18, metadata={"help": f"number of guiding keypoints: {', '.join(map(str, SETS))}"})
    relative: str = field(
        default="offsets", metadata={"help": f"encoding of vertices relative to keypoints: {', '.join(RELATIVE)}"}
    )
    heatmaps: str = field(default="network", metadata={"help": f"2D evidence for keypoints: {', '.join(HEATMAP_SOURCES)}"})
    heatmap_weights: str | None = field(default=None, metadata={"help": "frozen network of recipe=heatmap; null: packaged"})
    keypoint_weight: float = field(default=1.0, metadata={"help": "weight of the keypoint term"})
    rollout_from: float = field(default=0.5, metadata={"help": "share of the training after which half of the batches use "
                                                               "the network's own keypoints"})  # fmt: skip
