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
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuface_ray.fitting.direct import Fit
from neuface_ray.fitting.losses import mean_square
from neuface_ray.fitting.objective import Codes, Objective, ObjectiveConfig, Observations
from neuface_ray.fitting.pose import fill_invalid
from neuface_ray.heads import HeadModel
from neuface_ray.networks.encoders import Code, Encoder


@dataclass
class NeufaceConfig:
    """Settings of the NeuFace optimisation."""

    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Weights of the data terms."""
    moves_from: str = "top"
    """Lowest encoder stage that moves; the first stage moves the whole network."""
    passes: int = 100
    """Passes over the clip."""
    lr: float = 1e-3
    """Adam step size; the paper moves DECA with 2e-5."""
    shape_prior: float = 0.02
    """Weight of the identity prior; 0 in the paper."""
    expression_prior: float = 0.0
    """Weight of keeping expressions at the encoder's first answer; 0 in the paper."""
    min_improvement: float = 0.005
    """Stop when the mean loss of ten passes improves by less than this share."""
    micro_batch: int = 128
    """Images that pass through the moving stages at once; the result does not depend on it."""


RELEASED_BATCH = 20
DIVERGED = 10.0


def fit_neuface(encoder: Encoder, head: HeadModel, crops: Tensor, seen: Observations, config: NeufaceConfig) -> Fit:
    """Adapts a copy of the encoder to one clip and returns its codes.

    Args:
        encoder: the checkpoint; stays unchanged. head: the head it was trained for.
        crops: (F, V, 3, H, W) uint8 or float in [0, 1] at the encoder's crop size.
        seen: the clip's observations. config: weights, steps and what moves.

    Returns:
        Codes of every frame and view with one identity. A diverging optimisation returns its last good iterate with the
        reason ``diverged``.
    """
    encoder = copy.deepcopy(encoder).eval()
    moving = encoder.move_from(config.moves_from)
    features = [encode_fixed(encoder, part) for part in crops.flatten(0, 1).split(config.micro_batch)]
    frames, views = seen.valid.shape
    objective = Objective(head, seen, config.objective)
    first = predict(encoder, features, frames, views)
    adam = torch.optim.Adam(moving, lr=config.lr)
    good, losses, terms, reasons = copy.deepcopy(encoder.state_dict()), [], {}, ()
    for number in range(config.passes):
        loss, terms = optimise_once(encoder, features, objective, first, adam, config, number)
        if not math.isfinite(loss) or (losses and loss > DIVERGED * losses[0]):
            encoder.load_state_dict(good)
            reasons = ("diverged",)
            break
        losses.append(loss)
        if number % 10 == 9:
            good = copy.deepcopy(encoder.state_dict())
        if converged(losses, config.min_improvement):
            break
    codes = share_identity(predict(encoder, features, frames, views), seen.valid, config.objective.fidelity)
    return Fit(interpolate_gaps(codes, seen.valid), terms, reasons)


def encode_fixed(encoder: Encoder, crops: Tensor) -> Tensor:
    """Features (B, ...) of crops (B, 3, H, W) below the lowest moving stage, detached."""
    with torch.no_grad():
        device = next(encoder.parameters()).device
        images = crops.to(device)
        return encoder.features(images.float() / 255 if images.dtype == torch.uint8 else images)


def predict(encoder: Encoder, features: list[Tensor], frames: int, views: int) -> Codes:
    """The encoder's present codes (F, V, .), without gradients."""
    with torch.no_grad():
        parts = [encoder.head(part) for part in features]
    return as_codes(Code(*(torch.cat(values) for values in zip(*parts, strict=True))), frames, views)


def as_codes(code: Code, frames: int, views: int) -> Codes:
    """A batch of F * V codes, frame-major, as (F, V, .)."""
    return Codes(*(value.unflatten(0, (frames, views)) for value in code))


def share_identity(codes: Codes, valid: Tensor, fidelity: str) -> Codes:
    """One identity for all: the mean over valid images, or in released form that of the first image; shape (1, 1, S)."""
    if fidelity == "released":
        return Codes(codes.shape[:1, :1], codes.expression, codes.pose, codes.camera)
    weight = valid.to(codes.shape.dtype)[..., None]
    mean = (weight * codes.shape).sum((0, 1), keepdim=True) / weight.sum().clamp_min(1)
    return Codes(mean, codes.expression, codes.pose, codes.camera)


def optimise_once(
    encoder: Encoder,
    features: list[Tensor],
    objective: Objective,
    first: Codes,
    adam: torch.optim.Optimizer,
    config: NeufaceConfig,
    number: int,
) -> tuple[float, dict[str, float]]:
    """One pass: a single full-sequence step, or in released form one step per batch of 20 frames.

    The gradient with respect to the codes is computed first and then carried through the encoder in micro-batches, which is
    exact and keeps memory bounded.
    """
    frames, views = objective.seen.valid.shape
    total, terms = 0.0, {}
    for part in batches(frames, config.objective.fidelity):
        adam.zero_grad(set_to_none=True)
        chosen = [feature[part_of] for feature, part_of in micro_batches(features, part, views)]
        leaves = [value.requires_grad_() for value in flat_code(encoder, chosen)]
        codes = share_identity(as_codes(Code(*leaves), len(part), views), objective.seen.valid[part], config.objective.fidelity)
        weighted = objective.restricted_to(part).terms(codes, number)
        weighted["shape_prior"] = config.shape_prior * mean_square(codes.shape)
        weighted["expression_prior"] = config.expression_prior * mean_square(codes.expression, first.expression[part])
        sum(weighted.values()).backward()
        start = 0
        for piece in chosen:
            stop = start + len(piece)
            torch.autograd.backward(list(encoder.head(piece)), [leaf.grad[start:stop] for leaf in leaves])
            start = stop
        adam.step()
        terms = {name: value.item() for name, value in weighted.items()}
        total += sum(terms.values()) * len(part) / frames
    return total, terms


def flat_code(encoder: Encoder, pieces: list[Tensor]) -> list[Tensor]:
    """The four fields of the codes of all pieces, concatenated and detached."""
    with torch.no_grad():
        parts = [encoder.head(piece) for piece in pieces]
    return [torch.cat(values) for values in zip(*parts, strict=True)]


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


def interpolate_gaps(codes: Codes, valid: Tensor) -> Codes:
    """Numbers of frames without a face, interpolated in time; they stay marked invalid in the sequence."""
    filled = (fill_invalid(value, valid) for value in (codes.expression, codes.pose, codes.camera))
    return Codes(codes.shape, *filled)
