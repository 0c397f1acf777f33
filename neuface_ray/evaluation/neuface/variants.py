"""The rivals of NeuFace's comparison: the encoder bare and filtered, direct fitting, NeuFace with each choice of terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from neuface_ray.evaluation.synthetic_clips import from_image, in_image, uncalibrated
from neuface_ray.fitting.objective import ObjectiveConfig
from neuface_ray.fitting.pose import fill_invalid
from neuface_ray.fitting.targets import SIGMAS, low_passed
from neuface_ray.geometry.rotations import align_hemisphere, quaternion_to_rotvec, rotvec_to_quaternion
from neuface_ray.heads import HeadModel
from neuface_ray.methods.direct_fitting.fit import DirectFitConfig
from neuface_ray.methods.encoder.annotator import NeufaceAnnotatorConfig
from neuface_ray.methods.neuface.fit import NeufaceConfig
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from neuface_ray.types import FaceClip, MeshSequence

if TYPE_CHECKING:
    from neuface_ray.evaluation.neuface.experiment import NeufaceClaims

ENCODER, APART = "encoder", "encoder, identity apart"
DIRECT, CALIBRATED = "direct", "direct, calibrated"
POINTS, VIEW, TEMPORAL, FULL = "neuface 2D", "neuface 2D+view", "neuface 2D+temporal", "neuface"
WHOLE = "neuface, whole network"
LEFT_OUT_EVERY = 5
_WHOLE_COST = 20.0


@dataclass(frozen=True)
class Method:
    """A way of annotating and what it is given.

    Args:
        cost: rough work per face-frame, for scheduling. calibrated: the cameras are given. left_out: every fifth landmark
            is withheld. low_pass: strengths of the filter that make further rows of the same answer.
        sequences: run on the first so many synthetic sequences, None for all; everywhere: run on real clips too.
    """

    name: str
    annotator: AnnotatorConfig
    cost: float
    calibrated: bool = False
    left_out: bool = False
    low_pass: tuple[float, ...] = ()
    sequences: int | None = None
    everywhere: bool = False

    def annotate(self, clip: FaceClip, head: HeadModel) -> Iterator[tuple[str, MeshSequence]]:
        """Names of table rows and what they answer."""
        given = clip if self.calibrated else uncalibrated(clip)
        if self.left_out:
            points = left_out(head, clip.landmark_scheme)
            given = replace(given, landmark_confidence=given.landmark_confidence * ~points)
        sequence = build_annotator(self.annotator, head).annotate(given)
        yield self.name, sequence
        for strength in self.low_pass:
            yield low_pass_name(strength), low_pass(sequence, clip, strength)


def all_methods(own: NeufaceClaims, lowest_stage: str) -> list[Method]:
    """Everything that is compared; ``lowest_stage`` of the encoder is the one from which the whole network moves."""
    encoder, direct, neuface, device = own.encoder, own.direct, own.neuface, own.device
    whole = replace(neuface, moves_from=lowest_stage, lr=own.whole_lr)

    def bare(share: bool) -> AnnotatorConfig:
        return AnnotatorConfig(name="encoder", device=device, encoder=replace(encoder, share_identity=share))

    def moved(fit: NeufaceConfig) -> AnnotatorConfig:
        return AnnotatorConfig(name="neuface", device=device, neuface=NeufaceAnnotatorConfig(encoder, fit))

    def fitted(fit: DirectFitConfig) -> AnnotatorConfig:
        return AnnotatorConfig(name="flame_fitting", device=device, flame_fitting=fit)

    def with_terms(**choice: bool) -> AnnotatorConfig:
        return moved(replace(neuface, objective=only(neuface.objective, **choice)))

    cost, straight = float(neuface.passes), 0.5 * (direct.pose_steps + direct.steps)
    methods = [
        Method(ENCODER, bare(True), 2.0, low_pass=tuple(own.low_pass), everywhere=True),
        Method(APART, bare(False), 2.0, everywhere=True),
        Method(DIRECT, fitted(direct), straight, everywhere=True),
        Method(CALIBRATED, fitted(direct), straight, calibrated=True),
        Method(POINTS, with_terms(view=False, temporal=False), cost, everywhere=True),
        Method(VIEW, with_terms(view=True, temporal=False), cost, everywhere=True),
        Method(TEMPORAL, with_terms(view=False, temporal=True), cost, everywhere=True),
        Method(FULL, moved(neuface), cost, everywhere=True),
        Method(f"{DIRECT}, fifth left out", fitted(direct), straight, left_out=True),
        Method(f"{FULL}, fifth left out", moved(neuface), cost, left_out=True),
        Method(WHOLE, moved(whole), _WHOLE_COST * whole.passes, sequences=own.whole_sequences),
    ]
    for count in own.curve_passes:
        fit = replace(neuface, passes=count, min_improvement=float("-inf"))
        methods.append(Method(curve_name(FULL, count), moved(fit), float(count), sequences=own.curve_sequences))
    for count in own.curve_steps:
        fit = fitted(replace(direct, steps=count))
        methods.append(Method(curve_name(DIRECT, count), fit, 0.5 * count, sequences=own.curve_sequences))
    return methods


def only(objective: ObjectiveConfig, view: bool, temporal: bool) -> ObjectiveConfig:
    """The objective without its multi-view term, or without all that looks along time (orientation and expressions)."""
    if not view:
        objective = replace(objective, view=0.0)
    return objective if temporal else replace(objective, temporal=0.0, smoothness=0.0)


def left_out(head: HeadModel, scheme: str) -> np.ndarray:
    """bool (L,): every fifth of the landmarks that the head has, which a fit is then not given but judged by."""
    valid = head.embedding(scheme).valid.numpy()
    return valid & (np.cumsum(valid) % LEFT_OUT_EVERY == LEFT_OUT_EVERY // 2)


def low_pass_name(strength: float) -> str:
    """The table row of the encoder filtered with this strength (frames)."""
    return f"{ENCODER}, low-pass {strength:g}"


def curve_name(method: str, count: int) -> str:
    """The table row of a method stopped after so many passes or steps."""
    return f"{method}, {count} {'passes' if method == FULL else 'steps'}"


def low_pass(sequence: MeshSequence, clip: FaceClip, strength: float) -> MeshSequence:
    """The sequence smoothed along time by a Gaussian that looks both ways; before and after it, its ends are held.

    Orientations are averaged as quaternions, cameras in the source image, since crops move from frame to frame; where there is
    no crop the camera is interpolated.

    Args:
        strength: standard deviation of the filter, frames.
    """

    beyond = math.ceil(SIGMAS * strength)

    def smooth(values: np.ndarray) -> np.ndarray:
        held = torch.from_numpy(np.pad(values.astype(np.float64), ((beyond, beyond), (0, 0), (0, 0)), mode="edge"))
        return low_passed(held, torch.ones(held.shape[:2], dtype=torch.bool), strength)[beyond:-beyond].numpy()

    quaternion = align_hemisphere(rotvec_to_quaternion(torch.from_numpy(sequence.pose[..., :3].astype(np.float64))), 0)
    turned = torch.nn.functional.normalize(torch.from_numpy(smooth(quaternion.numpy())), dim=-1)
    pose = np.concatenate([quaternion_to_rotvec(turned).numpy(), smooth(sequence.pose[..., 3:])], -1)
    matrix = clip.crop_to_image
    camera = fill_invalid(torch.from_numpy(in_image(sequence.camera, matrix)), torch.from_numpy(clip.valid)).numpy()
    return replace(
        sequence,
        expression=smooth(sequence.expression).astype(np.float32),
        pose=pose.astype(np.float32),
        camera=from_image(smooth(camera), matrix).astype(np.float32),
    )
