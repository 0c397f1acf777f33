"""Annotation by an image encoder: its bare answer, or its answer after NeuFace has moved it (CVPR 2023)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuface_ray.errors import ModelFileError, UsageError
from neuface_ray.fitting.identity import expansion_of, share_identity
from neuface_ray.fitting.objective import Observations
from neuface_ray.heads import HeadModel
from neuface_ray.media.crop import resize_crops
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.encoder.weights import PACKAGED, load_encoder
from neuface_ray.methods.neuface.fit import NeufaceConfig, encode_fixed, fit_neuface, interpolate_gaps, predict
from neuface_ray.types import FaceClip, MeshSequence
from neuface_ray.uri import content_hash


@dataclass
class EncoderConfig:
    """Which encoder predicts head parameters from crops."""

    kind: str = "compact"
    """The network: compact (packaged, for the open head), deca or emoca (for FLAME)."""
    path: str | None = None
    """Weight file; null takes the packaged compact encoder. DECA's and EMOCA's are obtained from their authors' sites."""
    share_identity: bool = True
    """The bare encoder's identity is one for a clip: the mean over its images, less shrunk where they differ in direction."""


class EncoderAnnotator(Annotator):
    """The bare encoder: fast, and the start of every NeuFace optimisation."""

    name = "encoder"
    key = "annotator.encoder"

    def __init__(self, head: HeadModel, config: EncoderConfig | None = None, device: str = "auto"):
        super().__init__(head, device)
        self.config = config or EncoderConfig()
        self.encoder = load_encoder(self.config.kind, self.config.path, f"{self.key}.path").to(self.device)
        if self.encoder.head_model.split("/")[0].lower() != head.name.split("/")[0].lower():
            raise ModelFileError(
                f"encoder {self.config.kind!r} predicts parameters of the head {self.encoder.head_model!r}, but the head is "
                f"{head.id!r}; set head or {self.key}.kind so that they agree"
            )
        self.crop_size = self.encoder.crop_size
        self.weights_hash = content_hash(str(self.config.path or PACKAGED))

    def crops(self, clip: FaceClip) -> Tensor:
        """The clip's crops uint8 (F, V, 3, H, W) at the encoder's size."""
        return torch.from_numpy(resize_crops(clip.crops, self.crop_size))

    def annotate(self, clip: FaceClip) -> MeshSequence:
        """The encoder's answer for every frame; frames without a face are interpolated."""
        started = time.perf_counter()
        valid = torch.as_tensor(clip.valid, device=self.device)
        features = [encode_fixed(self.encoder, part) for part in self.crops(clip).flatten(0, 1).split(128)]
        parameters = predict(self.encoder, features, *clip.valid.shape)
        if self.config.share_identity:
            factor = expansion_of(parameters.pose, valid, self.encoder.signal)
            parameters = share_identity(parameters, valid, "paper", factor=factor)
        return self.sequence(clip, interpolate_gaps(parameters, valid), seconds={"fit": time.perf_counter() - started})


@dataclass
class NeufaceAnnotatorConfig:
    """NeuFace: an encoder and how it is adapted to each clip."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder that every clip starts from."""
    fit: NeufaceConfig = field(default_factory=NeufaceConfig)
    """The optimisation."""


class Neuface(EncoderAnnotator):
    """NeuFace: the encoder's weights are moved for every clip, always from the same checkpoint."""

    name = "neuface"
    key = "annotator.neuface.encoder"

    def __init__(self, head: HeadModel, config: NeufaceAnnotatorConfig | None = None, device: str = "auto"):
        config = config or NeufaceAnnotatorConfig()
        super().__init__(head, config.encoder, device)
        self.fit = config.fit
        if self.fit.moves_from not in self.encoder.stages:
            key = f"annotator.neuface.fit.moves_from={self.fit.moves_from!r}"
            raise UsageError(f"{key}: this encoder's stages are {', '.join(self.encoder.stages)}")

    def annotate(self, clip: FaceClip) -> MeshSequence:
        """Optimises one clip."""
        started = time.perf_counter()
        seen = Observations.of(clip, self.head, self.device)
        fit = fit_neuface(self.encoder, self.head, self.crops(clip), seen, self.fit)
        return self.sequence(
            clip,
            fit.parameters,
            reasons=fit.reasons,
            metrics={f"loss_{name}": value for name, value in fit.terms.items()},
            seconds={"fit": time.perf_counter() - started},
        )
