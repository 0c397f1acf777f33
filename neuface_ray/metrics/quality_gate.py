"""The quality gate: may an annotated clip be trusted? Limits are absolute, so a decision never depends on other clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neuface_ray.types import GateDecision, Quality

NO_FACE = "no_face"
FEW_VALID_FRAMES = "few_valid_frames"
IDENTITY_OUT_OF_DISTRIBUTION = "identity_out_of_distribution"
HIGH_NME = "high_nme"
DIVERGED = "diverged"


@dataclass
class GateConfig:
    """Limits that an accepted clip keeps; a clip beyond one of them stays in the dataset with ``accepted = false``."""

    min_valid_fraction: float = 0.5
    """Least share of the clip's frames and views in which the face was found."""
    max_nme: float = 8.0
    """Largest mean landmark error of the clip, in percent of the distance between the outer eye corners."""
    max_shape_norm: float = 1.5
    """Largest norm of the identity coefficients divided by the square root of their number; random faces have about 1.
    It is the criterion of NeuFace's dataset (reject faces whose identity is unlikely), made independent of scale and length."""


def apply_gate(quality: Quality, gate: GateConfig, annotator_reasons: Sequence[str] = ()) -> GateDecision:
    """Decide on one clip, with every reason that applies and the numbers behind it.

    Args:
        quality: what was measured on the clip.
        gate: the limits.
        annotator_reasons: codes that the annotator itself reported, such as ``diverged``; each one rejects the clip.
    """
    numbers = {"valid_fraction": quality.valid_fraction, "nme": quality.clip_nme, "shape_norm": quality.shape_norm}
    if quality.valid_fraction == 0:
        return GateDecision(False, (NO_FACE,), numbers)
    reasons = list(annotator_reasons)
    # The identity norm is NaN for methods without parameters; a fit that lost its numbers has no finite error either.
    if not math.isfinite(quality.clip_nme):
        reasons.append(DIVERGED)
    if quality.valid_fraction < gate.min_valid_fraction:
        reasons.append(FEW_VALID_FRAMES)
    if quality.shape_norm > gate.max_shape_norm:
        reasons.append(IDENTITY_OUT_OF_DISTRIBUTION)
    if quality.clip_nme > gate.max_nme:
        reasons.append(HIGH_NME)
    unique = tuple(dict.fromkeys(reasons))
    return GateDecision(not unique, unique, numbers)
