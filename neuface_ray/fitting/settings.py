"""Settings of the objective that fits share."""

from __future__ import annotations

from dataclasses import dataclass

from neuface_ray.errors import UsageError


@dataclass
class ObjectiveSettings:
    """Weights of the objective's terms (defaults are those of NeuFace's official code)."""

    landmark: float = 10.0
    """Weight of the 2D landmark term (Eq. 2)."""
    temporal: float = 100.0
    """Weight of the temporal orientation term (Eq. 3)."""
    temporal_order: int = 0
    """0: orientations are pulled to the paper's moving average; 2: to a local quadratic in time, which lets turns be.
    With 2 the weight is that at 25 frames/s. The official form has a target of its own."""
    view: float = 200.0
    """Weight of the multi-view bootstrapping term (Eq. 4)."""
    view_frames: int = 5
    """Frames that enter the multi-view term at each step."""
    smoothness: float = 0.0
    """Weight, at 25 frames/s, of the squared second difference of expressions in time; not in the paper."""
    fidelity: str = "paper"
    """'paper' or 'official_code': which form the targets take."""

    def __post_init__(self) -> None:
        if self.fidelity not in ("paper", "official_code"):
            raise UsageError(f"objective.fidelity={self.fidelity!r}: choose paper or official_code")
        if self.temporal_order not in (0, 2):
            raise UsageError(f"objective.temporal_order={self.temporal_order}: choose 0 (average) or 2 (local quadratic)")
