"""Annotation by NeuFace: an encoder moved until its answers follow a clip (CVPR 2023)."""

from __future__ import annotations

import time

from neuface_ray.errors import UsageError
from neuface_ray.fitting.observations import Observations
from neuface_ray.heads import HeadModel
from neuface_ray.methods.encoder.annotator import EncoderAnnotator
from neuface_ray.methods.neuface.fit import fit_neuface
from neuface_ray.methods.neuface.settings import NeufaceSettings
from neuface_ray.types import FaceClip, MeshSequence


class Neuface(EncoderAnnotator):
    """NeuFace: the encoder's weights are moved for every clip, always from the same checkpoint."""

    name = "neuface"
    key = "annotator.neuface.encoder"

    def __init__(self, head: HeadModel, config: NeufaceSettings | None = None, device: str = "auto"):
        config = config or NeufaceSettings()
        super().__init__(head, config.encoder, device)
        self.fit = config.fit
        if self.fit.trainable_from not in self.encoder.stages:
            key = f"annotator.neuface.fit.trainable_from={self.fit.trainable_from!r}"
            raise UsageError(f"{key}: this encoder's stages are {', '.join(self.encoder.stages)}")

    def annotate(self, clip: FaceClip) -> MeshSequence:
        """Optimises one clip."""
        started = time.perf_counter()
        observations = Observations.of(clip, self.head, self.device)
        fit = fit_neuface(self.encoder, self.head, self.crops(clip), observations, self.fit)
        return self.sequence(
            clip,
            fit.parameters,
            reasons=fit.reasons,
            metrics={f"loss_{name}": value for name, value in fit.terms.items()},
            seconds={"fit": time.perf_counter() - started},
        )
