"""Settings of NeuFace."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.errors import UsageError
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.methods.encoder.settings import EncoderSettings


@dataclass
class NeufaceFitSettings:
    """Settings of the NeuFace optimisation."""

    objective: ObjectiveSettings = field(
        default_factory=lambda: ObjectiveSettings(temporal=10_000.0, temporal_order=2, view=53.0, smoothness=0.5)
    )
    """Weights of the data terms, tuned for the compact encoder; the paper's are landmark 10, temporal 100, view 200."""
    trainable_from: str = "top"
    """Lowest encoder stage that is trained; the first stage trains the whole network."""
    iterations: int = 200
    """Iterations over all frames of the clip, at most."""
    lr: float = 3e-3
    """Adam step size; the paper moves DECA with 2e-5."""
    anneal: bool = True
    """The step size rises over a tenth of the iterations and then falls to zero; it is constant in the paper."""
    shape_prior: float = 0.25
    """Weight of keeping the identity at the encoder's first answer, averaged over the clip; 0 in the paper."""
    expression_prior: float = 8.0
    """Weight of keeping expressions at the encoder's first answer, slightly smoothed in time; 0 in the paper."""
    min_improvement: float = 0.005
    """In the second half of the iterations, stop when the mean loss of ten improves by less than this share."""
    micro_batch: int = 128
    """Images that pass through the moving stages at once; the result does not depend on it."""
    chunk_frames: int = 200
    """A longer clip is optimised in chunks of at most this many frames, with one identity."""
    chunk_overlap: int = 8
    """Frames that neighbouring chunks share and blend over."""

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.micro_batch < 1 or self.lr <= 0:
            values = f"fit.iterations={self.iterations}, fit.micro_batch={self.micro_batch}, fit.lr={self.lr}"
            raise UsageError(f"{values}: the first must be at least 0, the second at least 1, the third positive")
        if self.chunk_frames < 1 or not 0 <= 2 * self.chunk_overlap <= self.chunk_frames:
            values = f"fit.chunk_frames={self.chunk_frames}, fit.chunk_overlap={self.chunk_overlap}"
            raise UsageError(f"{values}: chunks of at least one frame may overlap by half at most")
        if min(self.shape_prior, self.expression_prior) < 0:
            raise UsageError(f"fit.shape_prior={self.shape_prior} and fit.expression_prior={self.expression_prior} are weights")


@dataclass
class NeufaceSettings:
    """NeuFace: an encoder and how it is adapted to each clip."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """The encoder that every clip starts from."""
    fit: NeufaceFitSettings = field(default_factory=NeufaceFitSettings)
    """The optimisation."""
