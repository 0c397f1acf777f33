"""What an encoder predicts for a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from neuface_ray.fitting.closed_form import fill_invalid
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.encoder.network import Encoder


def encode_fixed(encoder: Encoder, crops: Tensor) -> Tensor:
    """Features (B, ...) of crops (B, 3, H, W) below the lowest trainable stage, detached."""
    with torch.no_grad():
        device = next(encoder.parameters()).device
        images = crops.to(device)
        return encoder.features(images.float() / 255 if images.dtype == torch.uint8 else images)


def predict(encoder: Encoder, features: list[Tensor], frames: int, views: int) -> HeadParameters:
    """The parameters (F, V, .) that the encoder gives at present, without gradients."""
    return predict_batch(encoder, features).unflatten(frames, views)


def predict_batch(encoder: Encoder, pieces: list[Tensor]) -> HeadParameters:
    """The parameters that the encoder gives for all pieces, as one batch, detached."""
    with torch.no_grad():
        return HeadParameters.cat([encoder.head(piece) for piece in pieces])


def interpolate_gaps(parameters: HeadParameters, valid: Tensor) -> HeadParameters:
    """Numbers of frames without a face, interpolated in time; they stay marked invalid in the sequence."""
    filled = (fill_invalid(value, valid) for value in (parameters.expression, parameters.pose, parameters.camera))
    return HeadParameters(parameters.identity, *filled)
