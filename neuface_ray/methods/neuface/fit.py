"""NeuFace: a clip is fitted by moving the weights of an image encoder, not the head parameters themselves (Eq. 1).

Every clip starts from the same checkpoint. Each step is an expectation-maximisation pair: the targets of the temporal and
the multi-view term are computed from the present predictions, then Adam moves the weights towards them. The objective is
that of the whole clip; when only upper stages are trained, the features below them are computed once.

Source: Youwang et al., "NeuFace: Realistic 3D Neural Face Reconstruction from Multi-View Videos", CVPR 2023, and the
behaviour of its official code where ``fidelity`` is ``official_code`` (frames in batches of 20, identity of the first image of
a batch, lopsided window, targets not detached).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neuface_ray.fitting.identity import clip_shrinkage_correction, share_identity
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

OFFICIAL_BATCH = 20
DIVERGED = 10.0
PRIOR_LOW_PASS = 0.7
"""Standard deviation, in frames at 25 a second, of the filter on the expressions that the prior pulls towards; keeps blinks."""


def fit_neuface(
    encoder: Encoder, head: HeadModel, crops: Tensor, observations: Observations, config: NeufaceFitSettings
) -> Fit:
    """Adapts a copy of the encoder to one clip and returns the head parameters that it then gives.

    A clip of more than ``config.chunk_frames`` frames takes its identity from a fit to that many frames spread over the whole
    of it; then chunks of consecutive frames are fitted with this identity, and blended where they overlap.

    Args:
        encoder: the checkpoint; stays unchanged. head: the head it was trained for.
        crops: (F, V, 3, H, W) uint8 or float in [0, 1] at the encoder's crop size.
        observations: the clip's observations. config: weights, iterations and what is trained.

    Returns:
        Parameters of every frame and view with one identity. A diverging optimisation returns its last good iterate with
        the reason ``diverged``.
    """
    frames = len(crops)
    if frames <= config.chunk_frames:
        return fit_chunk(encoder, head, crops, observations, config)
    spread = torch.linspace(0, frames - 1, config.chunk_frames).round().long()
    unordered = replace(config, objective=replace(config.objective, temporal=0.0, smoothness=0.0))
    overview = fit_chunk(encoder, head, crops[spread], observations.of_frames(spread), unordered)
    parts = chunks(frames, config.chunk_frames, config.chunk_overlap)
    identity = overview.parameters.identity
    fits = [fit_chunk(encoder, head, crops[part], observations.of_frames(part), config, identity) for part in parts]
    measured = [fit.terms for fit in fits if fit.terms]
    terms = {name: sum(part[name] for part in measured) / len(measured) for name in (measured[0] if measured else ())}
    reasons = tuple(dict.fromkeys(reason for fit in (overview, *fits) for reason in fit.reasons))
    return Fit(interpolate_gaps(blended([fit.parameters for fit in fits], parts), observations.valid), terms, reasons)


def fit_chunk(
    encoder: Encoder,
    head: HeadModel,
    crops: Tensor,
    observations: Observations,
    config: NeufaceFitSettings,
    identity: Tensor | None = None,
) -> Fit:
    """One optimisation over consecutive frames, see :func:`fit_neuface`; ``identity`` (1, 1, S) is kept where it is given."""
    encoder = copy.deepcopy(encoder).eval()
    trainable = encoder.train_from(config.trainable_from)
    features = [encode_fixed(encoder, part) for part in crops.flatten(0, 1).split(config.micro_batch)]
    valid, fidelity = observations.valid, config.objective.fidelity
    first = predict(encoder, features, *valid.shape)
    factor = clip_shrinkage_correction(first.pose, valid, encoder.snr) if fidelity == "paper" else 1.0
    prior_mean = prior_means(first, observations, config.objective, factor)
    objective = Objective(head, observations, config.objective)
    problem = Problem(encoder, features, objective, prior_mean, config, identity, factor)
    adam = torch.optim.Adam(trainable, lr=config.lr)
    good, losses, terms, reasons = copy.deepcopy(encoder.state_dict()), [], {}, ()
    for number in range(config.iterations if bool(valid.any()) else 0):
        for group in adam.param_groups:
            group["lr"] = config.lr * (step_share(number, config.iterations) if config.anneal else 1)
        loss, terms = iterate(problem, adam, number)
        if not math.isfinite(loss) or (losses and loss > DIVERGED * losses[0]):
            encoder.load_state_dict(good)
            reasons = ("diverged",)
            break
        losses.append(loss)
        if number % 10 == 9:
            good = copy.deepcopy(encoder.state_dict())
        if number >= config.iterations // 2 and converged(losses, config.min_improvement):
            break
    parameters = share_identity(predict(encoder, features, *valid.shape), valid, fidelity, identity, factor)
    return Fit(interpolate_gaps(parameters, valid), terms, reasons)


def step_share(number: int, iterations: int) -> float:
    """Share of the step size at an iteration: a rise over the first tenth times a cosine to zero."""
    rise = min((number + 1) / max(iterations / 10, 1), 1.0)
    return rise * 0.5 * (1 + math.cos(math.pi * number / iterations))


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


def prior_means(
    parameters: HeadParameters, observations: Observations, objective: ObjectiveSettings, factor: float = 1.0
) -> HeadParameters:
    """The means of the priors, from the encoder's first answer: one identity; expressions without jitter if the objective looks
    along time, and the same in all views if it looks across them."""
    valid = observations.valid
    parameters = share_identity(parameters, valid, "paper", factor=factor)
    expression = parameters.expression
    if objective.temporal > 0 or objective.smoothness > 0:
        expression = low_passed(expression, valid, PRIOR_LOW_PASS * observations.frame_rate_ratio)
    if objective.view > 0:
        weight = valid.to(expression.dtype)[..., None]
        mean = (weight * expression).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
        expression = mean.expand_as(expression)
    return replace(parameters, expression=expression)


@dataclass(frozen=True)
class Problem:
    """What an optimisation minimises, the same at all iterations but for the weights of the encoder.

    Args:
        features: of the stages that do not move, in micro-batches. prior_mean: what the priors pull towards.
        identity: (1, 1, S) that is not optimised, or None. factor: on the mean of the images' identities.
    """

    encoder: Encoder
    features: list[Tensor]
    objective: Objective
    prior_mean: HeadParameters
    config: NeufaceFitSettings
    identity: Tensor | None = None
    factor: float = 1.0

    def terms(self, predicted: HeadParameters, part: range, number: int) -> dict[str, Tensor]:
        """The weighted terms, priors included, of parameters (F, V, .) of some frames at one iteration."""
        config, valid = self.config, self.objective.observations.valid[part]
        parameters = share_identity(predicted, valid, config.objective.fidelity, self.identity, self.factor)
        terms = self.objective.restricted_to(part).terms(parameters, number)
        terms["shape_prior"] = config.shape_prior * mean_square(parameters.identity, self.prior_mean.identity)
        expression_prior = mean_square(parameters.expression, self.prior_mean.expression[part], valid)
        return terms | {"expression_prior": config.expression_prior * expression_prior}


def iterate(problem: Problem, adam: torch.optim.Optimizer, number: int) -> tuple[float, dict[str, float]]:
    """One iteration: a single step over all frames, or in the official form one step for each batch of 20 frames.

    The gradient with respect to the head parameters is computed first and then carried through the encoder in micro-batches,
    which is exact and keeps memory bounded.
    """
    frames, views = problem.objective.observations.valid.shape
    encoder, total, terms = problem.encoder, 0.0, {}
    for part in batches(frames, problem.config.objective.fidelity):
        adam.zero_grad(set_to_none=True)
        pieces = [feature[images] for feature, images in micro_batches(problem.features, part, views)]
        leaves = predict_batch(encoder, pieces).map(Tensor.requires_grad_)
        weighted = problem.terms(leaves.unflatten(len(part), views), part, number)
        sum(weighted.values()).backward()
        start = 0
        for piece in pieces:
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
    if fidelity == "paper" or frames < OFFICIAL_BATCH + 5:
        return [range(frames)]
    starts = list(range(0, frames, OFFICIAL_BATCH))
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
