"""Annotation by an image encoder alone."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from neuface_ray.errors import ModelFileError
from neuface_ray.fitting.identity import clip_shrinkage_correction, share_identity
from neuface_ray.heads import HeadModel
from neuface_ray.media.crop import resize_crops
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.encoder.predict import encode_fixed, interpolate_gaps, predict
from neuface_ray.methods.encoder.settings import EncoderSettings
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.networks.trunk import PACKAGED_COMPACT
from neuface_ray.types import FaceClip, MeshSequence
from neuface_ray.uri import content_hash


class EncoderAnnotator(Annotator):
    """The bare encoder: fast, and the start of every NeuFace optimisation."""

    name = "encoder"
    key = "annotator.encoder"

    def __init__(self, head: HeadModel, config: EncoderSettings | None = None, device: str = "auto"):
        super().__init__(head, device)
        self.config = config or EncoderSettings()
        self.encoder = load_encoder(self.config.kind, self.config.path, f"{self.key}.path").to(self.device)
        if self.encoder.head_model.split("/")[0].lower() != head.name.split("/")[0].lower():
            raise ModelFileError(
                f"encoder {self.config.kind!r} predicts parameters of the head {self.encoder.head_model!r}, but the head is "
                f"{head.id!r}; set head or {self.key}.kind so that they agree"
            )
        self.crop_size = self.encoder.crop_size
        self.weights_hash = content_hash(str(self.config.path or PACKAGED_COMPACT))

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
            factor = clip_shrinkage_correction(parameters.pose, valid, self.encoder.snr)
            parameters = share_identity(parameters, valid, "paper", factor=factor)
        return self.sequence(clip, interpolate_gaps(parameters, valid), seconds={"fit": time.perf_counter() - started})
