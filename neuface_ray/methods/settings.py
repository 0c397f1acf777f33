"""Settings that several methods share."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AugmentSettings:
    """Random changes of training crops; each colour change happens with probability ``colour`` (LVD's ranges)."""

    colour: float = field(default=0.3, metadata={"help": "probability of each of the five colour changes"})
    rotation_deg: float = field(default=15.0, metadata={"help": "largest in-plane rotation, degrees"})
    scale: float = field(default=0.1, metadata={"help": "largest relative change of the crop's size"})
    shift: float = field(default=0.1, metadata={"help": "largest shift, in half crops"})
