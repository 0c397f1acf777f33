"""Settings that evaluations share."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.methods.direct_fitting.fit import DirectFitConfig
from neuface_ray.methods.neuface.fit import NeufaceConfig


@dataclass
class BaselineSettings:
    """Settings of the annotators under evaluation; those of an annotator without a section are its defaults."""

    weights: str | None = None
    """File of the compact encoder, alone and in NeuFace; null takes the packaged one."""
    device: str = "auto"
    """Torch device; auto takes the GPU where one is visible."""
    flame_fitting: DirectFitConfig = field(default_factory=DirectFitConfig)
    """Direct parameter fitting."""
    neuface: NeufaceConfig = field(default_factory=NeufaceConfig)
    """The NeuFace optimisation."""
