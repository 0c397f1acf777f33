"""Annotation by direct parameter fitting, the baseline that everything else must beat (NeuFace, A.1)."""

from __future__ import annotations

import math
import time

from neuface_ray.fitting.observations import Observations
from neuface_ray.heads import HeadModel
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.direct_fitting.fit import fit_directly
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.types import FaceClip, MeshSequence


class DirectFitting(Annotator):
    """Fits head parameters to the landmarks of a clip, for any head model."""

    name = "direct_fitting"

    def __init__(self, head: HeadModel, config: DirectFittingSettings | None = None, device: str = "auto"):
        super().__init__(head, device)
        self.config = config or DirectFittingSettings()

    def annotate(self, clip: FaceClip) -> MeshSequence:
        """Fits one clip; a fit that ends in numbers that are not finite is marked ``diverged``."""
        started = time.perf_counter()
        fit = fit_directly(self.head, Observations.of(clip, self.head, self.device), self.config)
        finite = all(math.isfinite(value) for value in fit.terms.values())
        return self.sequence(
            clip,
            fit.parameters,
            reasons=() if finite else ("diverged",),
            metrics={f"loss_{name}": value for name, value in fit.terms.items()},
            seconds={"fit": time.perf_counter() - started},
        )
