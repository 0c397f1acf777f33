"""Settings of the evaluation of GLVD's comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.media.config import MediaConfig
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.methods.encoder.settings import EncoderSettings
from neuface_ray.methods.lvd.settings import DescentSettings
from neuface_ray.methods.neuface.settings import NeufaceFitSettings
from neuface_ray.synthesis.materials import Materials


@dataclass(frozen=True)
class GlvdEvaluation(Materials):
    """GLVD and its baselines on synthetic people with truth, and on real clips."""

    methods: list[str] = field(default_factory=lambda: ["lvd", "glvd", "encoder", "direct_fitting", "neuface"])
    """What is compared; lvd and glvd are what the acceptance criteria are about."""
    identities: int = 24
    """Synthetic people, each with a face, light and cameras of its own, seen at one instant."""
    views: list[int] = field(default_factory=lambda: [1, 3, 6])
    """Numbers of views: the first so many of front, left_30, right_30, left_60, right_60, top, down; the first is 1."""
    yaw_deg: float = 30.0
    """Largest resting yaw of a head; the views' angles come on top."""
    seed: int = 93_000
    """Seed of the people; not one that a network was trained on."""
    picture_px: int = 256
    """Side of the pictures that are drawn, in which landmarks are then detected."""
    picture_scale: float = 1.7
    """Side of the drawn pictures over 1.1 times the landmark box; above media.crop_scale."""
    clips: list[str] = field(default_factory=list)
    """Real recordings, reported without criteria; of each the largest face of its first segment."""
    media: MediaConfig = field(default_factory=lambda: MediaConfig(max_frames=30, max_faces=1))
    """How landmarks are detected and crops are cut, and how real clips are read."""
    lvd: DescentSettings = field(default_factory=DescentSettings)
    """LVD, trained with the budget and on the data of GLVD."""
    glvd: DescentSettings = field(default_factory=DescentSettings)
    """GLVD."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """The encoder, alone and in NeuFace."""
    direct_fitting: DirectFittingSettings = field(default_factory=DirectFittingSettings)
    """Direct parameter fitting."""
    neuface: NeufaceFitSettings = field(default_factory=NeufaceFitSettings)
    """NeuFace as it is run by default."""
    timed_frames: int = 20
    """Frames of the clip of one view on which time per face is measured."""
    device: str = "cpu"
    """Torch device of all methods."""
    workers: int = 2
    """Parallel processes of one thread each; 1 runs everything in this process."""
