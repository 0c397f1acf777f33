"""Settings of the evaluation of NeuFace's comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.media.config import MediaConfig
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.methods.encoder.settings import EncoderSettings
from neuface_ray.methods.neuface.settings import NeufaceFitSettings
from neuface_ray.synthesis.materials import Materials


@dataclass(frozen=True)
class NeufaceEvaluation(Materials):
    """NeuFace, direct fitting and the encoder on synthetic sequences with truth, and on real clips."""

    sequences: int = 10
    """Synthetic sequences, each of its own person, motion and light."""
    frames: int = 40
    """Frames of each."""
    views: int = 3
    """Synchronised views of each: front, left_30, right_30, left_60, right_60, top, down; the acceptance criteria need two."""
    fps: float = 25.0
    """Frame rate; MSI values at different rates cannot be compared."""
    yaw_deg: float = 30.0
    """Largest resting yaw of a head; with the views' 30 degrees on top the detector still finds nearly all faces."""
    seed: int = 92_000
    """Seed of the sequences; not one that an encoder was trained on."""
    picture_px: int = 256
    """Side of the pictures that are drawn, in which landmarks are then detected."""
    picture_scale: float = 1.7
    """Side of the drawn pictures over 1.1 times the landmark box; above media.crop_scale."""
    landmarks: str = "detected"
    """detected: as the detector sees the pictures. true: projections of the truth."""
    clips: list[str] = field(default_factory=list)
    """Real recordings, reported without criteria; of each the largest face of its first segment."""
    media: MediaConfig = field(default_factory=lambda: MediaConfig(max_frames=60, max_faces=1))
    """How landmarks are detected and crops are cut, and how real clips are read."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """The encoder that is evaluated and that NeuFace adapts."""
    neuface: NeufaceFitSettings = field(default_factory=NeufaceFitSettings)
    """NeuFace with all its terms."""
    direct: DirectFittingSettings = field(
        default_factory=lambda: DirectFittingSettings(NeufaceFitSettings().objective, shape_prior=1.0, expression_prior=1.0)
    )
    """Direct fitting with the same terms, equally weighted, and the priors that give it the lowest vertex error."""
    low_pass: list[float] = field(default_factory=lambda: [0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    """Strengths of the temporal filter on the encoder: standard deviations in frames."""
    whole_sequences: int = 2
    """The whole network moves on the first so many sequences."""
    whole_lr: float = 1e-4
    """Step size when the whole network moves."""
    curve_sequences: int = 3
    """Error against time is measured on the first so many sequences."""
    curve_iterations: list[int] = field(default_factory=lambda: [10, 30, 80, 200])
    """Lengths of NeuFace for error against time."""
    curve_steps: list[int] = field(default_factory=lambda: [15, 40, 120, 300])
    """Lengths of direct fitting for error against time."""
    device: str = "cpu"
    """Torch device of all methods."""
    workers: int = 2
    """Parallel processes of one thread each; 1 runs everything in this process."""
