"""What NeuFace's comparison runs: the encoder bare and filtered, direct fitting, NeuFace with each choice of terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from neuface_ray.evaluation.neuface.settings import NeufaceEvaluation
from neuface_ray.evaluation.synthetic_clips import from_image, in_image, uncalibrated
from neuface_ray.fitting.closed_form import fill_invalid
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.fitting.temporal import SIGMAS, low_passed
from neuface_ray.geometry.rotations import align_hemisphere, quaternion_to_rotvec, rotvec_to_quaternion
from neuface_ray.heads import HeadModel
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.methods.neuface.settings import NeufaceFitSettings, NeufaceSettings
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from neuface_ray.types import FaceClip, MeshSequence

ENCODER, APART = "encoder", "encoder, identity apart"
DIRECT, CALIBRATED = "direct", "direct, calibrated"
POINTS, VIEW, TEMPORAL, FULL = "neuface 2D", "neuface 2D+view", "neuface 2D+temporal", "neuface"
WHOLE = "neuface, whole network"
WITHHELD_EVERY = 5
_WHOLE_COST = 20.0


@dataclass(frozen=True)
class Variant:
    """An annotator with its settings, and what it is given.

    Args:
        cost: rough work per face-frame, for scheduling. calibrated: the cameras are given. withholds: every fifth landmark
            is withheld. low_pass: strengths of the filter that make further rows of the same result.
        sequences: run on the first so many synthetic sequences, None for all. on_real_clips: run on real clips too.
    """

    name: str
    annotator: AnnotatorConfig
    cost: float
    calibrated: bool = False
    withholds: bool = False
    low_pass: tuple[float, ...] = ()
    sequences: int | None = None
    on_real_clips: bool = False

    def annotate(self, clip: FaceClip, head: HeadModel) -> Iterator[tuple[str, MeshSequence]]:
        """Annotate a clip; yields names of table rows and their sequences."""
        shown = clip if self.calibrated else uncalibrated(clip)
        if self.withholds:
            points = withheld_landmarks(head, clip.landmark_scheme)
            shown = replace(shown, landmark_confidence=shown.landmark_confidence * ~points)
        sequence = build_annotator(self.annotator, head).annotate(shown)
        yield self.name, sequence
        for strength in self.low_pass:
            yield low_pass_name(strength), low_pass(sequence, clip, strength)


def all_variants(settings: NeufaceEvaluation, lowest_stage: str) -> list[Variant]:
    """List everything that is compared; ``lowest_stage`` of the encoder is the one from which the whole network moves."""
    encoder, direct, neuface, device = settings.encoder, settings.direct, settings.neuface, settings.device
    all_layers = replace(neuface, trainable_from=lowest_stage, lr=settings.whole_lr)

    def bare(shared: bool) -> AnnotatorConfig:
        return AnnotatorConfig(name="encoder", device=device, settings=replace(encoder, share_identity=shared))

    def adapted(fit: NeufaceFitSettings) -> AnnotatorConfig:
        return AnnotatorConfig(name="neuface", device=device, settings=NeufaceSettings(encoder, fit))

    def fitted(fit: DirectFittingSettings) -> AnnotatorConfig:
        return AnnotatorConfig(name="direct_fitting", device=device, settings=fit)

    def with_terms(**choice: bool) -> AnnotatorConfig:
        return adapted(replace(neuface, objective=choose_terms(neuface.objective, **choice)))

    cost, direct_cost = float(neuface.iterations), 0.5 * (direct.pose_steps + direct.steps)
    variants = [
        Variant(ENCODER, bare(True), 2.0, low_pass=tuple(settings.low_pass), on_real_clips=True),
        Variant(APART, bare(False), 2.0, on_real_clips=True),
        Variant(DIRECT, fitted(direct), direct_cost, on_real_clips=True),
        Variant(CALIBRATED, fitted(direct), direct_cost, calibrated=True),
        Variant(POINTS, with_terms(view=False, temporal=False), cost, on_real_clips=True),
        Variant(VIEW, with_terms(view=True, temporal=False), cost, on_real_clips=True),
        Variant(TEMPORAL, with_terms(view=False, temporal=True), cost, on_real_clips=True),
        Variant(FULL, adapted(neuface), cost, on_real_clips=True),
        Variant(f"{DIRECT}, fifth left out", fitted(direct), direct_cost, withholds=True),
        Variant(f"{FULL}, fifth left out", adapted(neuface), cost, withholds=True),
        Variant(WHOLE, adapted(all_layers), _WHOLE_COST * all_layers.iterations, sequences=settings.whole_sequences),
    ]
    for count in settings.curve_iterations:
        fit = replace(neuface, iterations=count, min_improvement=float("-inf"))
        variants.append(Variant(curve_name(FULL, count), adapted(fit), float(count), sequences=settings.curve_sequences))
    for count in settings.curve_steps:
        fit = fitted(replace(direct, steps=count))
        variants.append(Variant(curve_name(DIRECT, count), fit, 0.5 * count, sequences=settings.curve_sequences))
    return variants


def choose_terms(objective: ObjectiveSettings, view: bool, temporal: bool) -> ObjectiveSettings:
    """The objective without its multi-view term, or without all that looks along time (orientation and expressions)."""
    if not view:
        objective = replace(objective, view=0.0)
    return objective if temporal else replace(objective, temporal=0.0, smoothness=0.0)


def withheld_landmarks(head: HeadModel, scheme: str) -> np.ndarray:
    """bool (L,): every fifth of the landmarks that the head has, which a fit is not given but scored on."""
    valid = head.embedding(scheme).valid.numpy()
    return valid & (np.cumsum(valid) % WITHHELD_EVERY == WITHHELD_EVERY // 2)


def low_pass_name(strength: float) -> str:
    """The table row of the encoder filtered with this strength (frames)."""
    return f"{ENCODER}, low-pass {strength:g}"


def curve_name(method: str, count: int) -> str:
    """The table row of a method stopped after so many iterations or steps."""
    return f"{method}, {count} {'iterations' if method == FULL else 'steps'}"


def low_pass(sequence: MeshSequence, clip: FaceClip, strength: float) -> MeshSequence:
    """Smooth a sequence along time by a Gaussian that looks both ways.

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
