"""Settings of the encoder and of its training."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EncoderSettings:
    """Which encoder predicts head parameters from crops."""

    kind: str = "compact"
    """The network: compact (packaged, for the open head), deca or emoca (for FLAME)."""
    path: str | None = None
    """Weight file; null takes the packaged compact encoder. DECA's and EMOCA's are obtained from their authors' sites."""
    share_identity: bool = True
    """The bare encoder's identity is one for a clip: the mean over its images, less shrunk where they differ in direction."""


@dataclass
class LossWeights:
    """Weight of each loss term; vertex terms are means over vertices in millimetres, 2D terms hundredths of half the crop."""

    neutral: float = 0.25
    """Expressionless faces."""
    form: float = 5.0
    """Expressionless inner faces but for place, turn and scale."""
    person: float = 0.75
    """Both, for the mean shape of the pictures of one person."""
    expression: float = 1.0
    """Displacements by the expression."""
    posed: float = 0.35
    """Turned faces, about the root."""
    landmarks: float = 1.0
    """Projected landmarks."""
    gap: float = 1.0
    """Apertures of lids and lips."""
    parameters: float = 1.0
    """Shape, expression, rotation and scale themselves."""


@dataclass
class EncoderTrainingSettings:
    """The compact encoder's training."""

    group: int = 4
    """Pictures of one person that stay together in a batch; at most as many as the faces show of each."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Of the loss terms."""
