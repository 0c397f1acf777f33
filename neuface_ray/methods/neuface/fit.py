"""NeuFace: a clip is fitted by moving the weights of an image encoder, not the head parameters themselves (Eq. 1).

Every clip starts from the same checkpoint. Each step is an expectation-maximisation pair: the targets of the temporal and
the multi-view term are computed from the present predictions, then Adam moves the weights towards them. The objective is
that of the whole clip; when only upper stages move, the features below them are computed once.

Source: Youwang et al., "NeuFace: Realistic 3D Neural Face Reconstruction from Multi-View Videos", CVPR 2023, and the
behaviour of its released code where ``fidelity`` is ``released`` (frames in batches of 20, identity of the first image of a
batch, lopsided window, targets not detached).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from neuface_ray.fitting.identity import expansion_of, share_identity
from neuface_ray.fitting.losses import mean_square
from neuface_ray.fitting.objective import Fit, Objective
from neuface_ray.fitting.observations import Observations
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.fitting.temporal import low_passed
from neuface_ray.geometry.rotations import quaternion_to_rotvec, rotvec_to_quaternion
from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.encoder.network import Encoder
from neuface_ray.methods.encoder.predict import encode_fixed, interpolate_gaps, predict, predict_batch
from neuface_ray.methods.neuface.settings import NeufaceFitSettings

RELEASED_BATCH = 20
DIVERGED = 10.0
ANCHOR_LOW_PASS = 0.7
"""Standard deviation, in frames at 25 a second, of the filter on the expressions that the prior pulls towards; keeps blinks."""


def fit_neuface(encoder: Encoder, head: HeadModel, crops: Tensor, seen: Observations, config: NeufaceFitSettings) -> Fit:
    """Adapts a copy of the encoder to one clip and returns the head parameters that it then gives.

    A clip of more than ``config.chunk_frames`` frames takes its identity from a fit to that many frames spread over the whole
    of it; then chunks of consecutive frames are fitted with this identity, and blended where they overlap.

    Args:
        encoder: the checkpoint; stays unchanged. head: the head it was trained for.
        crops: (F, V, 3, H, W) uint8 or float in [0, 1] at the encoder's crop size.
        seen: the clip's observations. config: weights, steps and what moves.

    Returns:
        Parameters of every frame and view with one identity. A diverging optimisation returns its last good iterate with
        the reason ``diverged``.
    """
    frames = len(crops)
    if frames <= config.chunk_frames:
        return fit_chunk(encoder, head, crops, seen, config)
    spread = torch.linspace(0, frames - 1, config.chunk_frames).round().long()
    unordered = replace(config, objective=replace(config.objective, temporal=0.0, smoothness=0.0))
    whole = fit_chunk(encoder, head, crops[spread], seen.of_frames(spread), unordered)
    parts = chunks(frames, config.chunk_frames, config.chunk_overlap)
    fits = [fit_chunk(encoder, head, crops[part], seen.of_frames(part), config, whole.parameters.identity) for part in parts]
    measured = [fit.terms for fit in fits if fit.terms]
    terms = {name: sum(part[name] for part in measured) / len(measured) for name in (measured[0] if measured else ())}
    reasons = tuple(dict.fromkeys(reason for fit in (whole, *fits) for reason in fit.reasons))
    return Fit(interpolate_gaps(blended([fit.parameters for fit in fits], parts), seen.valid), terms, reasons)


def fit_chunk(
    encoder: Encoder,
    head: HeadModel,
    crops: Tensor,
    seen: Observations,
    config: NeufaceFitSettings,
    identity: Tensor | None = None,
) -> Fit:
    """One optimisation over consecutive frames, see :func:`fit_neuface`; ``identity`` (1, 1, S) is kept where it is given."""
    encoder = copy.deepcopy(encoder).eval()
    moving = encoder.move_from(config.moves_from)
    features = [encode_fixed(encoder, part) for part in crops.flatten(0, 1).split(config.micro_batch)]
    frames, views = seen.valid.shape
    objective = Objective(head, seen, config.objective)
    first = predict(encoder, features, frames, views)
    factor = expansion_of(first.pose, seen.valid, encoder.signal) if config.objective.fidelity == "paper" else 1.0
    anchor = first_answer(first, seen, config.objective, factor)
    adam = torch.optim.Adam(moving, lr=config.lr)
    good, losses, terms, reasons = copy.deepcopy(encoder.state_dict()), [], {}, ()
    for number in range(config.passes if bool(seen.valid.any()) else 0):
        for group in adam.param_groups:
            group["lr"] = config.lr * (step_share(number, config.passes) if config.anneal else 1)
        loss, terms = optimise_once(encoder, features, objective, anchor, adam, config, number, identity, factor)
        if not math.isfinite(loss) or (losses and loss > DIVERGED * losses[0]):
            encoder.load_state_dict(good)
            reasons = ("diverged",)
            break
        losses.append(loss)
        if number % 10 == 9:
            good = copy.deepcopy(encoder.state_dict())
        if number >= config.passes // 2 and converged(losses, config.min_improvement):
            break
    last = predict(encoder, features, frames, views)
    parameters = share_identity(last, seen.valid, config.objective.fidelity, identity, factor)
    return Fit(interpolate_gaps(parameters, seen.valid), terms, reasons)


def step_share(number: int, passes: int) -> float:
    """Share of the step size at a pass: a rise over the first tenth times a cosine to zero, so that the answer settles."""
    rise = min((number + 1) / max(passes / 10, 1), 1.0)
    return rise * 0.5 * (1 + math.cos(math.pi * number / passes))


def chunks(frames: int, most: int, overlap: int) -> list[slice]:
    """Consecutive parts of ``frames`` frames, nearly equal, each of at most ``most``, neighbours sharing ``overlap``."""
    count = max(math.ceil((frames - overlap) / (most - overlap)), 1)
    starts = [round(number * (frames - overlap) / count) for number in range(count + 1)]
    return [slice(start, stop + overlap) for start, stop in itertools.pairwise(starts)]


def blended(parameters: list[HeadParameters], parts: list[slice]) -> HeadParameters:
    """The parameters of overlapping parts as one: their weights cross over linearly, orientations as quaternions."""
    frames = parts[-1].stop

    def joined(values: list[Tensor]) -> Tensor:
        total = values[0].new_zeros(frames, *values[0].shape[1:])
        for value, part, share in zip(values, parts, ramps(parts), strict=True):
            total[part] += share.to(value)[:, None, None] * value
        return total

    quaternions = [rotvec_to_quaternion(part.pose.unflatten(-1, (-1, 3))) for part in parameters]
    for (before, after), (left, right) in zip(itertools.pairwise(quaternions), itertools.pairwise(parts), strict=True):
        shared = left.stop - right.start
        if shared > 0:
            opposite = (before[-shared:] * after[:shared]).sum(-1, keepdim=True) < 0
            after[:shared] = torch.where(opposite, -after[:shared], after[:shared])
    turned = torch.nn.functional.normalize(joined([q.flatten(2) for q in quaternions]).unflatten(-1, (-1, 4)), dim=-1)
    expression, camera = joined([part.expression for part in parameters]), joined([part.camera for part in parameters])
    return HeadParameters(parameters[0].identity, expression, quaternion_to_rotvec(turned).flatten(2), camera)


def ramps(parts: list[slice]) -> list[Tensor]:
    """The weight of each part at each of its frames: 1, but rising and falling linearly over what it shares; they sum to 1."""
    weights = [torch.ones(part.stop - part.start) for part in parts]
    for number, (left, right) in enumerate(itertools.pairwise(parts)):
        shared = left.stop - right.start
        rise = torch.arange(1, shared + 1) / (shared + 1)
        weights[number][len(weights[number]) - shared :] = 1 - rise
        weights[number + 1][:shared] = rise
    return weights


def first_answer(
    parameters: HeadParameters, seen: Observations, config: ObjectiveSettings, factor: float = 1.0
) -> HeadParameters:
    """What the priors pull towards: one identity; expressions without jitter if the objective looks along time, and the same
    in all views if it looks across them."""
    valid = seen.valid
    parameters = share_identity(parameters, valid, "paper", factor=factor)
    if config.temporal > 0 or config.smoothness > 0:
        parameters = replace(parameters, expression=low_passed(parameters.expression, valid, ANCHOR_LOW_PASS * seen.pace))
    if config.view > 0:
        weight = valid.to(parameters.expression.dtype)[..., None]
        mean = (weight * parameters.expression).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
        parameters = replace(parameters, expression=mean.expand_as(parameters.expression))
    return parameters


def optimise_once(
    encoder: Encoder,
    features: list[Tensor],
    objective: Objective,
    anchor: HeadParameters,
    adam: torch.optim.Optimizer,
    config: NeufaceFitSettings,
    number: int,
    identity: Tensor | None = None,
    factor: float = 1.0,
) -> tuple[float, dict[str, float]]:
    """One pass: a single full-sequence step, or in released form one step per batch of 20 frames.

    The gradient with respect to the head parameters is computed first and then carried through the encoder in micro-batches,
    which is exact and keeps memory bounded.
    """
    frames, views = objective.seen.valid.shape
    total, terms = 0.0, {}
    for part in batches(frames, config.objective.fidelity):
        adam.zero_grad(set_to_none=True)
        chosen = [feature[part_of] for feature, part_of in micro_batches(features, part, views)]
        leaves = predict_batch(encoder, chosen).map(Tensor.requires_grad_)
        apart, fidelity = leaves.unflatten(len(part), views), config.objective.fidelity
        parameters = share_identity(apart, objective.seen.valid[part], fidelity, identity, factor)
        weighted = objective.restricted_to(part).terms(parameters, number)
        weighted["shape_prior"] = config.shape_prior * mean_square(parameters.identity, anchor.identity)
        weighted["expression_prior"] = config.expression_prior * mean_square(
            parameters.expression, anchor.expression[part], objective.seen.valid[part]
        )
        sum(weighted.values()).backward()
        start = 0
        for piece in chosen:
            stop = start + len(piece)
            pairs = zip(encoder.head(piece).tensors, leaves.tensors, strict=True)
            outputs = [(value, leaf.grad[start:stop]) for value, leaf in pairs if leaf.grad is not None]
            torch.autograd.backward(*zip(*outputs, strict=True))
            start = stop
        adam.step()
        terms = {name: value.item() for name, value in weighted.items()}
        total += sum(terms.values()) * len(part) / frames
    return total, terms


def batches(frames: int, fidelity: str) -> list[range]:
    """The frames of each step: all at once, or batches of 20 with a last one of at least five frames of its own."""
    if fidelity == "paper" or frames < RELEASED_BATCH + 5:
        return [range(frames)]
    starts = list(range(0, frames, RELEASED_BATCH))
    if frames - starts[-1] < 5:
        starts.pop()
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], frames], strict=True)]


def micro_batches(features: list[Tensor], part: range, views: int) -> Iterator[tuple[Tensor, slice]]:
    """The slices of the stored features that hold the images of some consecutive frames."""
    first, last, start = part.start * views, part.stop * views, 0
    for feature in features:
        stop = start + len(feature)
        if stop > first and start < last:
            yield feature, slice(max(first - start, 0), min(last, stop) - start)
        start = stop


def converged(losses: list[float], min_improvement: float) -> bool:
    """The mean of the last ten losses improves on the ten before by less than a share of it."""
    if len(losses) < 20 or len(losses) % 10:
        return False
    before, now = sum(losses[-20:-10]) / 10, sum(losses[-10:]) / 10
    return before - now < min_improvement * before
